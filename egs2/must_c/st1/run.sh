#!/usr/bin/env bash
# English speech -> German text. The encoder starts from must_c/asr1:
#   ./run.sh --pretrained_asr ../asr1/exp/<asr>/valid.acc.ave_10best.pth:encoder:encoder
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./st.sh \
    --config conf/pair_en-de.yaml \
    --src_lang en \
    --src_case lc.rm \
    --tgt_case tc \
    --src_token_type bpe \
    --src_nbpe 5000 \
    --tgt_token_type bpe \
    --tgt_nbpe 8000 \
    --tgt_bpemode unigram \
    --use_lm false \
    --feats_normalize utterance_mvn \
    --max_wav_duration 30 \
    --nj 16 \
    --inference_nj 1 \
    --batch_size 1000 \
    --batch_length 8000000 \
    --st_config conf/train_st.yaml \
    --inference_config conf/decode_st.yaml \
    --inference_st_model valid.acc.ave_10best.pth \
    "$@"
