#!/usr/bin/env bash
# Another microphone: ./run.sh --config conf/mic_sdm1.yaml
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

exec ./asr.sh \
    --config conf/mic_ihm.yaml \
    --lang en \
    --token_type bpe \
    --nbpe 100 \
    --bpemode unigram \
    --use_lm false \
    --speed_perturb_factors "0.9 1.0 1.1" \
    --feats_normalize utterance_mvn \
    --nj 16 \
    --inference_nj 1 \
    --batch_size 1000 \
    --batch_length 19200000 \
    --asr_config conf/train_asr.yaml \
    --inference_config conf/decode_asr.yaml \
    --inference_asr_model valid.acc.ave_10best.pth \
    "$@"
