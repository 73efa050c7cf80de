#!/usr/bin/env bash
# English speech -> English text: its encoder is where must_c/st1 starts.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./asr.sh \
    --config conf/pair_en-de.yaml \
    --lang en \
    --token_type bpe \
    --nbpe 5000 \
    --bpemode unigram \
    --use_lm false \
    --feats_normalize utterance_mvn \
    --max_wav_duration 30 \
    --nj 16 \
    --inference_nj 1 \
    --batch_size 1000 \
    --batch_length 8000000 \
    --asr_config conf/train_asr.yaml \
    --inference_config conf/decode_asr.yaml \
    --inference_asr_model valid.acc.ave_10best.pth \
    "$@"
