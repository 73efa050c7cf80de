#!/usr/bin/env bash
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./asr.sh \
    --lang en \
    --token_type bpe \
    --nbpe 100 \
    --use_lm false \
    --nj 2 \
    --inference_nj 1 \
    --batch_size 16 \
    --asr_config conf/train_asr.yaml \
    --inference_config conf/decode_asr.yaml \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    "$@"
