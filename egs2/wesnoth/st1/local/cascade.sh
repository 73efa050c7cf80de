#!/usr/bin/env bash
# Score a cascade on the tests: recognise the English words, then translate them. Both models are
# trained here, on the sets of stage 1.
#
# usage: local/cascade.sh [OPTIONS OF BOTH]
#        such as --attention mtla --ngpu 1 --gpu_inference true
# Environment: ASR_ARGS, MT_ARGS: options of one of them, such as "--nbpe 500"; TESTS: the sets.
# exp/cascade has both experiments; exp/baselines/cascade and cascade_true get translations and
# scores, the latter of the true English words.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
recipe=$PWD
work=$PWD/exp/cascade
tests=${TESTS:-test_voices test_steel_sky test_drascula}
shared=(--use_lm false --nj 4 --inference_nj 1 --batch_size 64 --train_set train --valid_set valid)
shared+=(--inference_tag decode "$@")

mkdir -p "${work}/asr"
ln -sfn "${recipe}/data" "${work}/asr/data"
cd "${work}/asr"
# shellcheck disable=SC2086
"${python}" -m mtla_espnet recipe asr --stage 2 --stop_stage 13 --lang en --nbpe 500 \
    --max_wav_duration 20 --test_sets "${tests}" --asr_exp exp/model \
    --asr_config "${recipe}/conf/cascade_asr.yaml" \
    --inference_config "${recipe}/conf/cascade_decode_asr.yaml" "${shared[@]}" ${ASR_ARGS-}

"${python}" "${recipe}/local/cascade.py" prepare "${recipe}/data" "${work}" "${tests}"
mkdir -p "${work}/mt"
cd "${work}/mt"
# shellcheck disable=SC2086
"${python}" -m mtla_espnet recipe sum --stage 2 --stop_stage 12 --lang en_de --token_joint true \
    --tgt_nbpe 2000 --test_sets "${tests} ${tests//test_/true_}" --mt_exp exp/model \
    --mt_config "${recipe}/conf/cascade_mt.yaml" \
    --inference_config "${recipe}/conf/decode_st.yaml" "${shared[@]}" ${MT_ARGS-}
exec "${python}" "${recipe}/local/cascade.py" score "${recipe}/data" "${work}" "${tests}"
