#!/usr/bin/env bash
# pydocs/sum1 with every attention kind on a GPU machine, which may have no network.
#
# usage: bench/pydocs_gpu.sh pack FILE        here: stages 1 to 10, then what training reads, as a tar
#        bench/pydocs_gpu.sh run FILE OUT     there: train, decode, score; OUT gets results.tgz and
#                                             parameters in float16
# Environment of `run`:
#   KINDS      of conf/attention; default: mha gqa mqa mla mtla mtla_s3
#   KEEP       kinds whose parameters OUT gets, default mtla
#   SIDE       trainings side by side on a GPU, default 6
#   MPS        1: NVIDIA's daemon that lets processes share a GPU at the same time; 0: not;
#              default: where it is installed
#   TRAIN_S    seconds of a training at most, default 1000 (six side by side on an H200 with MPS
#              need about 850, by the estimate of one that was stopped after 440); one that is
#              stopped is averaged over the epochs that it has
#   CONFIG     of the training, default train_sum_gpu; its tag is CONFIG_raw_en_bpe4000_KIND
#   NGPU       0: on the CPU
# A second `run` with the same OUT goes on where the first was stopped.
set -uo pipefail

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
recipe=$checkout/egs2/pydocs/sum1
: "${KINDS:=mha gqa mqa mla mtla mtla_s3}" "${KEEP:=mtla}" "${SIDE:=6}" "${TRAIN_S:=1000}"
: "${CONFIG:=train_sum_gpu}" "${NGPU:=1}"
# shellcheck source=side_by_side.sh
. "$checkout/bench/side_by_side.sh"

usage() {
    sed -n '4,6p' "${BASH_SOURCE[0]}" | cut -c 3- >&2
    exit 2
}

pack() {
    mkdir -p "$(dirname -- "$1")"
    file=$(cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
    cd "$recipe" || exit 1
    ./run.sh --stop_stage 10 || exit 1
    tar cJf "$file" --exclude=logdir --exclude=train.txt --exclude=.lock \
        data/en_token_list dump/raw/train dump/raw/valid dump/raw/test exp/mt_stats_raw_en_bpe4000
    ls -l "$file"
}

# One kind: train until TRAIN_S, average, decode, score.
one() {
    kind=$1
    tag=${CONFIG}_raw_en_bpe4000_$kind
    summary=exp/mt_$tag/training.json
    on_gpu=true
    [ "$NGPU" != 0 ] || on_gpu=false
    call=(./run.sh --mt_config "conf/$CONFIG.yaml" --attention "$kind" --mt_tag "$tag"
        --ngpu "$NGPU" --gpu_inference "$on_gpu" --batch_size 64)
    args=()
    timeout "$TRAIN_S" "${call[@]}" --stage 11 --stop_stage 11
    code=$?
    if [ $code -ne 0 ]; then
        [ -f "$summary" ] || { echo "$kind: no epoch (code $code)"; return 1; }
        averaging=$(averaging_args "$summary") || return 1
        echo "$kind: stopped (code $code), averaged by $averaging"
        sleep 10 # until the stopped process has left its directory
        args=(--mt_args "$averaging")
        "${call[@]}" "${args[@]}" --stage 11 --stop_stage 11 || return 1
    fi
    "${call[@]}" "${args[@]}" --stage 12 --stop_stage 13
}

run() {
    mkdir -p "$2/logs"
    out=$(cd -- "$2" && pwd)
    file=$(cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
    cd "$recipe" || exit 1
    [ -d exp/mt_stats_raw_en_bpe4000 ] || tar xJf "$file" || exit 1
    # shellcheck source=../egs2/TEMPLATE/asr1/path.sh
    . ./path.sh
    find_gpus
    trap stop_mps EXIT
    start_mps "$out/logs/mps"
    number=0
    for kind in $KINDS; do
        while [ "$(jobs -pr | wc -l)" -ge $((gpus * SIDE)) ]; do wait -n; done
        CUDA_VISIBLE_DEVICES=$((number % gpus)) one "$kind" >"$out/logs/$kind.log" 2>&1 &
        number=$((number + 1))
    done
    wait
    stop_mps
    tail -n 2 "$out"/logs/*.log
    "$python" -m mtla_espnet report .
    tar czf "$out/results.tgz" --exclude='*.pth' --exclude=tensorboard --exclude=images \
        --exclude='mt_stats*' exp -C "$out" logs
    for kind in $KEEP; do
        directory=exp/mt_${CONFIG}_raw_en_bpe4000_$kind
        [ -f "$directory/valid.acc.ave.pth" ] || continue
        "$python" "$checkout/bench/half_weights.py" "$directory/valid.acc.ave.pth" "$out/$kind.pth"
    done
    ls -l "$out"
}

if [ "${1:-}" = pack ] && [ $# -eq 2 ]; then
    pack "$2"
elif [ "${1:-}" = run ] && [ $# -eq 3 ]; then
    run "$2" "$3"
else
    usage
fi
