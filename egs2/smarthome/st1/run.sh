#!/usr/bin/env bash
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./st.sh \
    --lang en_de \
    --src_lang en \
    --tgt_lang de \
    --src_case lc.rm \
    --tgt_case tc \
    --src_bpemode bpe \
    --src_nbpe 400 \
    --tgt_bpemode bpe \
    --tgt_nbpe 400 \
    --use_lm false \
    --nj 2 \
    --inference_nj 1 \
    --batch_size 16 \
    --st_config conf/train_st.yaml \
    --inference_config conf/decode_st.yaml \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    "$@"
