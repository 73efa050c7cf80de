#!/usr/bin/env bash
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./slu.sh \
    --lang mul \
    --token_type bpe \
    --nbpe 400 \
    --bpe_nlsyms conf/symbols.txt \
    --use_lm false \
    --nj 2 \
    --inference_nj 1 \
    --batch_size 32 \
    --max_wav_duration 15 \
    --slu_config conf/train_slu.yaml \
    --inference_config conf/decode_slu.yaml \
    --train_set train \
    --valid_set valid \
    --test_sets "test_voices test_engine" \
    "$@"
