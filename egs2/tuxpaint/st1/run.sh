#!/usr/bin/env bash
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./st.sh \
    --lang mul_en \
    --src_lang mul \
    --tgt_lang en \
    --src_case lc.rm \
    --tgt_case tc \
    --src_token_type char \
    --tgt_token_type bpe \
    --tgt_nbpe 300 \
    --use_lm false \
    --nj 4 \
    --inference_nj 1 \
    --batch_size 64 \
    --speed_perturb_factors "0.9 1.0 1.1" \
    --max_wav_duration 10 \
    --channel mean \
    --st_config conf/train_st_fbank.yaml \
    --inference_config conf/decode_st.yaml \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    "$@"
