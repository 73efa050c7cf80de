#!/usr/bin/env bash
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./st.sh \
    --lang en_de \
    --src_lang en \
    --tgt_lang de \
    --src_case lc.rm \
    --tgt_case tc \
    --src_token_type bpe \
    --src_nbpe 500 \
    --tgt_token_type bpe \
    --tgt_nbpe 1000 \
    --use_lm false \
    --nj 4 \
    --inference_nj 1 \
    --batch_size 64 \
    --max_wav_duration 20 \
    --st_config conf/train_st.yaml \
    --inference_config conf/decode_st.yaml \
    --train_set train \
    --valid_set valid \
    --test_sets "test_voices test_steel_sky test_drascula" \
    "$@"
