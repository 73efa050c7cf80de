#!/usr/bin/env bash
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./asr.sh \
    --lang mul \
    --token_type char \
    --nlsyms_txt conf/languages.txt \
    --use_lm false \
    --lm_config conf/lm.yaml \
    --lm_train_text data/lm_text \
    --nj 4 \
    --inference_nj 1 \
    --batch_size 64 \
    --speed_perturb_factors "0.9 1.0 1.1" \
    --max_wav_duration 10 \
    --channel mean \
    --asr_config conf/train_asr_fbank.yaml \
    --inference_config conf/decode_asr.yaml \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    "$@"
