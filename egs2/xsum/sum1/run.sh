#!/usr/bin/env bash
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./sum.sh \
    --lang en \
    --token_joint true \
    --tgt_token_type bpe \
    --tgt_nbpe 30000 \
    --tgt_bpemode bpe \
    --use_lm false \
    --nj 16 \
    --inference_nj 1 \
    --batch_size 1000 \
    --batch_length 70000 \
    --detokenize true \
    --rouge paper \
    --mt_config conf/train_sum.yaml \
    --inference_config conf/decode_sum.yaml \
    --inference_mt_model valid.acc.ave_10best.pth \
    --train_set train \
    --valid_set validation \
    --test_sets "test" \
    "$@"
