#!/usr/bin/env bash
# A recipe with every attention kind and several seeds on a GPU machine, which may have no network.
#
# usage: bench/recipe_gpu.sh pack RECIPE FILE        here: what training starts from, as a tar.xz
#        bench/recipe_gpu.sh train RECIPE FILE OUT   there: the stages before training, and training
#        bench/recipe_gpu.sh score RECIPE OUT        there: average, decode, score, report; OUT gets
#                                                    results.tgz and parameters in float16, as
#                                                    files of 15 MB: cat NAME.pth.* > NAME.pth
# RECIPE is such as debian/sum1 or amazon_queen/asr1. A text recipe is packed after stage 10. A
# speech recipe is packed after stage 1, its recordings as Opus (speech_pack.py), with the encoder
# of downloads/whisper-tiny.en, where that is. A pack made by hand may have no data directories but
# what stage 1 makes them of: then that runs there. A second `train` goes on where the first was
# stopped.
#
# Environment:
#   KINDS      of conf/attention; default: mha gqa mqa mla mtla mtla_s3
#   SEEDS      trainings a kind, with seeds 0, 1, ...; default 1
#   CONFIG     of the training, default train_<task>_gpu
#   EPOCHS     instead of those of the configuration, with a schedule that ends with them
#   ARGS       laid over the training's configuration
#   RUN_ARGS   options of run.sh for all its calls, such as --feats_normalize none
#   NAME       of the experiments, default study: as those of `mtla-espnet study --name`
#   KEEP       models whose parameters OUT gets, default mtla_seed0
#   SIDE       trainings side by side on a GPU, default 6
#   SCORE_SIDE models decoded side by side on a GPU, default 1, so that their times can be compared
#   MPS        1: NVIDIA's daemon that lets processes share a GPU at the same time; 0: not;
#              default: where it is installed
#   UNTIL_S    seconds from the start after which trainings are stopped, default 540; `score`
#              averages one that was stopped over the epochs that it has
#   NGPU       0: on the CPU
set -uo pipefail

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
: "${KINDS:=mha gqa mqa mla mtla mtla_s3}" "${SEEDS:=1}" "${KEEP:=mtla_seed0}" "${SIDE:=6}"
: "${UNTIL_S:=540}" "${EPOCHS:=}" "${ARGS:=}" "${RUN_ARGS:=}" "${NAME:=study}" "${NGPU:=1}"
: "${CONFIG:=}" "${SCORE_SIDE:=1}"
cores=$(nproc --all) # without --all it would heed OMP_NUM_THREADS
# shellcheck source=side_by_side.sh
. "$checkout/bench/side_by_side.sh"

usage() {
    sed -n '4,8p' "${BASH_SOURCE[0]}" | cut -c 3- >&2
    exit 2
}

# enter RECIPE: go there; `task` and `model` are as in the names of its files.
enter() {
    cd "$checkout/egs2/$1" || exit 1
    # shellcheck source=../egs2/TEMPLATE/asr1/path.sh
    . ./path.sh
    task=${1#*/} && task=${task%1}
    model=$task
    [ "$task" != sum ] || model=mt
    [ -n "$CONFIG" ] || CONFIG=train_${task}_gpu
}

pack() {
    file=$(absolute "$2")
    enter "$1"
    last=1
    [ "$task" != sum ] || last=10
    # shellcheck disable=SC2086
    ./run.sh --stop_stage $last $RUN_ARGS || exit 1
    if [ "$task" = sum ]; then
        tar cJf "$file" --exclude=logdir --exclude=train.txt --exclude=.lock \
            data/en_token_list dump/raw/train dump/raw/valid dump/raw/test exp/mt_stats_* || exit 1
    else
        packed=$(mktemp -d) || exit 1
        trap 'rm -rf -- "$packed"' EXIT
        "$python" "$checkout/bench/speech_pack.py" "$packed" "$PWD" || exit 1
        [ ! -d downloads/whisper-tiny.en ] ||
            cp -r downloads/whisper-tiny.en "$packed/${1#*/}/downloads/" || exit 1
        # Each recording's file is padded, which xz takes out.
        tar cJf "$file" -C "$packed/${1#*/}" . || exit 1
    fi
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

# begin PHASE RECIPE OUT: what `train` and `score` begin with.
begin() {
    phase=$1
    mkdir -p "$3"
    out=$(absolute "$3")
    enter "$2"
    WORK=$PWD/exp
    mkdir -p "$WORK/logs"
    export OMP_NUM_THREADS=1
    # For a frozen encoder, which mixed precision leaves in float32.
    export TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1
    find_gpus
    on_gpu=true
    [ "$NGPU" != 0 ] || on_gpu=false
    ends=
    [ -z "$EPOCHS" ] || ends=$(schedule) || exit 1
    models=()
    for ((seed = 0; seed < SEEDS; seed++)); do
        for kind in $KINDS; do models+=("${kind}_seed$seed"); done
    done
    trap stop_mps EXIT
}

# options MODEL [ARGUMENTS]: set `call`, its run.sh, and `directory`.
options() {
    directory=exp/${NAME}_$1
    # shellcheck disable=SC2206
    call=(./run.sh $RUN_ARGS --ngpu "$NGPU" --gpu_inference "$on_gpu" --batch_size 64
        "--${model}_config" "conf/$CONFIG.yaml" --attention "${1%_seed*}"
        "--${model}_exp" "$directory" "--${model}_args" "--seed ${1##*_seed} $ends $ARGS ${2:-}")
    [ "$task" = sum ] || call+=("--${model}_stats_dir" "exp/stats_$CONFIG")
}

train_one() {
    options "$1"
    train_until "$1" "${call[@]}" --stage 11 --stop_stage 11
}

train() {
    file=$(absolute "$2")
    begin train "$1" "$3"
    [ -d data ] || "$python" -m tarfile -e "$file" . || exit 1
    options "${models[0]}"
    if [ "$task" != sum ]; then
        first=2
        [ -e data/train/wav.scp ] || first=1
        "${call[@]}" --stage $first --stop_stage 10 --nj "$cores" >>"$WORK/logs/prepare.log" 2>&1 ||
            { tail -n 5 "$WORK/logs/prepare.log"; exit 1; }
        grep -h "finished in" "$WORK/logs/prepare.log"
    fi
    say prepared
    start_mps "$WORK/logs/mps"
    on_all train_one "$SIDE" "${models[@]}"
    tell_trained "$WORK"
    say trained
}

average_one() {
    options "$1"
    [ ! -e "$directory/valid.acc.ave.pth" ] || return 0
    [ -f "$directory/training.json" ] || { echo "$1: no epoch is trained"; return 1; }
    averaging=$(averaging_args "$directory/training.json") || return 1
    options "$1" "$averaging"
    "${call[@]}" --stage 11 --stop_stage 11
}

score_one() {
    options "$1"
    [ -e "$directory/valid.acc.ave.pth" ] || return 1
    "${call[@]}" --stage 12 --stop_stage 13
}

score() {
    begin score "$1" "$2"
    on_all average_one 8 "${models[@]}"
    say averaged
    on_all score_one "$SCORE_SIDE" "${models[@]}"
    say scored
    "$python" -m mtla_espnet report .
    "$python" -m mtla_espnet study . --name "$NAME" --attention "$KINDS" --seeds "$SEEDS" \
        --baseline "${KINDS%% *}" --report_only
    for name in $KEEP; do
        parameters=exp/${NAME}_$name/valid.acc.ave.pth
        [ -f "$parameters" ] || continue
        "$python" "$checkout/bench/half_weights.py" "$parameters" "$WORK/$name.pth" frontend.encoder. &&
            split -b 15000000 -d "$WORK/$name.pth" "$out/$name.pth."
    done
    tar czf "$out/results.tgz" --exclude='*.pth' --exclude=tensorboard --exclude=images \
        --exclude='*stats_*' exp
    ls -l "$out"
    say ended
}

case "${1:-} $#" in
    "pack 3") pack "$2" "$3" ;;
    "train 4") train "$2" "$3" "$4" ;;
    "score 3") score "$2" "$3" ;;
    *) usage ;;
esac
