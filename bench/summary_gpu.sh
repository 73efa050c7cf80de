#!/usr/bin/env bash
# A text recipe's summaries with every attention kind on a GPU machine, which may have no network.
#
# usage: bench/summary_gpu.sh pack RECIPE FILE        here: stages 1 to 10 (ARGS_1 are options of
#                                                     run.sh), then what training reads, as a tar.xz
#        bench/summary_gpu.sh train RECIPE FILE OUT   there: train, decode, score; OUT gets
#                                                     results.tgz and parameters in float16
# RECIPE is pydocs/sum1 or debian/sum1. Environment of `train`:
#   MODELS     kind:seed ..., the kinds of conf/attention; default: mha gqa mqa mla mtla mtla_s3, each
#              with seed 0
#   KEEP       those whose parameters OUT gets, default mtla:0
#   SIDE       trainings side by side on a GPU, default 6
#   MPS        1: NVIDIA's daemon that lets processes share a GPU at the same time; 0: not;
#              default: where it is installed
#   UNTIL_S    seconds from the start after which trainings are stopped, default 1000; one that is
#              stopped is averaged over the epochs that it has
#   EPOCHS     instead of those of the configuration, with a schedule that ends with them
#   CONFIG     of the training, default train_sum_gpu
#   ARGS       laid over the training's configuration
#   NGPU       0: on the CPU
# A second `train` with the same MODELS goes on where the first was stopped.
set -uo pipefail

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
: "${MODELS:=mha:0 gqa:0 mqa:0 mla:0 mtla:0 mtla_s3:0}" "${KEEP:=mtla:0}" "${SIDE:=6}"
: "${UNTIL_S:=1000}" "${EPOCHS:=}" "${CONFIG:=train_sum_gpu}" "${ARGS:=}" "${NGPU:=1}"
: "${ARGS_1:=}"
# shellcheck source=side_by_side.sh
. "$checkout/bench/side_by_side.sh"

usage() {
    sed -n '4,7p' "${BASH_SOURCE[0]}" | cut -c 3- >&2
    exit 2
}

enter() {
    cd "$checkout/egs2/$1" || exit 1
    # shellcheck source=../egs2/TEMPLATE/asr1/path.sh
    . ./path.sh
}

pack() {
    file=$(absolute "$2")
    enter "$1"
    # shellcheck disable=SC2086
    ./run.sh --stop_stage 10 $ARGS_1 || exit 1
    tar cJf "$file" --exclude=logdir --exclude=train.txt --exclude=.lock \
        data/en_token_list dump/raw/train dump/raw/valid dump/raw/test exp/mt_stats_*
    ls -l "$file"
}

# The knots of a configuration's schedule in which the last epoch ends with the training.
schedule() {
    "$python" - "conf/$CONFIG.yaml" "$EPOCHS" <<'PYTHON'
import sys

from mtla_espnet.yaml_files import load_yaml

config, epochs = load_yaml(sys.argv[1]), int(sys.argv[2])
steps = config["scheduler_conf"]["warmup_steps_list"]
steps[-2] = epochs * config["num_iters_per_epoch"]
steps[1] = min(steps[1], steps[-2] // 4)
print(f"--max_epoch {epochs} --scheduler_conf warmup_steps_list={steps}".replace(", ", ","))
PYTHON
}

# One model: train until UNTIL_S, average, decode, score.
one() {
    IFS=: read -r kind seed <<<"$1"
    tag=${kind}_seed$seed
    call=(./run.sh --mt_config "conf/$CONFIG.yaml" --attention "$kind" --mt_tag "$tag"
        --ngpu "$NGPU" --gpu_inference "$on_gpu" --batch_size 64)
    args="--seed $seed $ends $ARGS"
    if ! train_until "$1" "${call[@]}" --mt_args "$args" --stage 11 --stop_stage 11; then
        [ -f "exp/mt_$tag/training.json" ] || { echo "$1: no epoch is trained"; return 1; }
        averaging=$(averaging_args "exp/mt_$tag/training.json") || return 1
        args+=" $averaging"
        "${call[@]}" --mt_args "$args" --stage 11 --stop_stage 11 || return 1
    fi
    "${call[@]}" --mt_args "$args" --stage 12 --stop_stage 13
}

train() {
    phase=train
    mkdir -p "$3"
    out=$(absolute "$3") file=$(absolute "$2")
    enter "$1"
    WORK=$PWD/exp
    mkdir -p "$WORK/logs"
    [ -d data/en_token_list ] || "$python" -m tarfile -e "$file" . || exit 1
    export OMP_NUM_THREADS=1
    find_gpus
    on_gpu=true
    [ "$NGPU" != 0 ] || on_gpu=false
    ends=
    [ -z "$EPOCHS" ] || ends=$(schedule) || exit 1
    trap stop_mps EXIT
    start_mps "$WORK/logs/mps"
    say begun
    # shellcheck disable=SC2086
    on_all one "$SIDE" $MODELS
    stop_mps
    tell_trained "$WORK"
    say trained
    "$python" -m mtla_espnet report .
    tar czf "$out/results.tgz" --exclude='*.pth' --exclude=tensorboard --exclude=images \
        --exclude='mt_stats*' exp
    for model in $KEEP; do
        IFS=: read -r kind seed <<<"$model"
        parameters=exp/mt_${kind}_seed$seed/valid.acc.ave.pth
        [ -f "$parameters" ] || continue
        "$python" "$checkout/bench/half_weights.py" "$parameters" "$out/${kind}_seed$seed.pth"
    done
    ls -l "$out"
    say ended
}

case "${1:-} $#" in
    "pack 3") pack "$2" "$3" ;;
    "train 4") train "$2" "$3" "$4" ;;
    *) usage ;;
esac
