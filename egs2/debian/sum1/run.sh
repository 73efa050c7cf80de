#!/usr/bin/env bash
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./sum.sh \
    --lang en \
    --token_joint true \
    --tgt_nbpe 5000 \
    --tgt_bpe_char_cover 0.9999 \
    --tgt_bpe_nlsyms "[summary],[first],[gap]" \
    --heading_mark "[summary]" \
    --use_lm false \
    --nj 2 \
    --inference_nj 1 \
    --batch_size 32 \
    --mt_config conf/train_sum.yaml \
    --inference_config conf/decode_sum.yaml \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    "$@"
