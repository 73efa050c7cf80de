#!/usr/bin/env bash
# The text is the intent and BPE pieces already (local/data.sh): every piece is a word here.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./slu.sh \
    --lang en \
    --token_type word \
    --use_lm false \
    --max_wav_duration 30 \
    --feats_normalize utterance_mvn \
    --nj 16 \
    --inference_nj 1 \
    --batch_size 1000 \
    --batch_length 20800000 \
    --unknown_intents wrong \
    --slu_config conf/train_slu.yaml \
    --inference_config conf/decode_slu.yaml \
    --inference_slu_model valid.acc.ave_10best.pth \
    --train_set train \
    --valid_set devel \
    --test_sets "test devel" \
    "$@"
