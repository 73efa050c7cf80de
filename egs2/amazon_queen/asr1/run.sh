#!/usr/bin/env bash
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./asr.sh \
    --lang en \
    --token_type bpe \
    --nbpe 300 \
    --use_lm false \
    --nj 4 \
    --inference_nj 1 \
    --batch_size 64 \
    --speed_perturb_factors "0.9 1.0 1.1" \
    --max_wav_duration 12 \
    --asr_config conf/train_asr_fbank.yaml \
    --inference_config conf/decode_asr.yaml \
    --train_set train \
    --valid_set valid \
    --test_sets "test_characters test_scenes" \
    "$@"
