#!/bin/sh
# The demo: train and decode one small model with MHA and one with MTLA, compare them, and
# transcribe a recording. Called again after an interruption, it goes on where it stopped.
#
# usage: tools/demo.sh  (make demo, which makes .venv first)
set -eu
cd -- "$(dirname -- "$0")/.."
PATH=$PWD/.venv/bin:$PATH
cd egs2/smarthome/asr1

for attention in mha mtla; do
    ./run.sh --attention "$attention"
done
mtla-espnet report .

# Lines of data/test: <id> <path of the recording>, <id> <what was said>.
read -r _ recording <data/test/wav.scp
read -r _ words <data/test/text
printf '\nA recording that no model has seen: %s\nIts words: %s\n' "$recording" "$words"
printf 'The model with MTLA hears:\n'
mtla-espnet transcribe --model exp/asr_train_asr_raw_en_bpe100_mtla "$recording"
