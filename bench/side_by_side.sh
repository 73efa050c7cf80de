# shellcheck shell=bash
# Sourced by what trains several models side by side.
#
# Environment: MPS (1: start the daemon; 0: not; default: where it is installed), NGPU (0: no GPU,
# so no daemon), python, UNTIL_S of `train_until`, `phase` of `say`, and
# WORK, whose logs/ `on_all` writes, with `gpus`.
: "${MPS:=}"
mps=

# Set `gpus`, 1 without any, and how their memory is taken.
# shellcheck disable=SC2034 # who sources this reads it
find_gpus() {
    gpus=1
    [ "$NGPU" = 0 ] || gpus=$(nvidia-smi -L | wc -l)
    # Batches differ in shape, and trainings side by side have no memory to leave unused.
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
}

# train_until NAME COMMAND ...: run a training until UNTIL_S seconds after the start.
train_until() {
    name=$1
    shift
    left=$((UNTIL_S - SECONDS))
    [ "$left" -gt 0 ] || { echo "$name: no time is left"; return 1; }
    timeout --kill-after 10 "$left" "$@"
    code=$?
    [ $code -eq 0 ] || echo "$name: stopped (code $code)"
    return $code
}

# averaging_args TRAINING_JSON: the arguments by which a stopped training ends at once, and is
# averaged over its best epochs so far.
averaging_args() {
    epochs=$("${python:?}" -c 'import json, sys; print(json.load(open(sys.argv[1]))["epochs"])' "$1") ||
        return 1
    echo "--max_epoch $epochs --keep_nbest_models $((epochs < 5 ? epochs : 5))"
}

# NVIDIA's daemon (MPS) lets processes share a GPU at the same time; without it they take turns.
# start_mps LOGS: LOGS gets the daemon's own logs. Goes on without it where it does not work.
start_mps() {
    [ "$NGPU" != 0 ] && [ "$MPS" != 0 ] || return 0
    [ "$MPS" = 1 ] || command -v nvidia-cuda-mps-control >/dev/null || { echo "no MPS"; return 0; }
    mkdir -p "$1"
    CUDA_MPS_PIPE_DIRECTORY=$(mktemp -d) CUDA_MPS_LOG_DIRECTORY=$1
    export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
    mps=1
    if nvidia-cuda-mps-control -d && timeout --kill-after 5 20 "${python:?}" -c '
import torch
for number in range(torch.cuda.device_count()):
    x = torch.ones(64, 64, device=f"cuda:{number}")
    assert (x @ x).sum().item() == 64**3'; then
        echo "MPS works after $SECONDS s"
        return 0
    fi
    tail -n 5 "$1"/*.log
    stop_mps
    echo "MPS does not work, goes on without"
}

stop_mps() {
    [ -n "$mps" ] || return 0
    mps=
    echo "quit -t 5" | timeout 20 nvidia-cuda-mps-control
    rm -rf -- "$CUDA_MPS_PIPE_DIRECTORY"
    unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
}

# absolute FILE: its path; its directory is made.
absolute() {
    mkdir -p "$(dirname -- "$1")"
    echo "$(cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")"
}

# say WORDS ...: what `phase` has done.
say() {
    echo "${phase:?}: $* after $SECONDS s"
}

# How many of these processes run.
living() {
    count=0
    for pid in "$@"; do ! kill -0 "$pid" 2>/dev/null || count=$((count + 1)); done
    echo "$count"
}

# Run a function on each of some words, `side` at a time on each GPU; tell what failed.
on_all() {
    function=$1 side=$2
    shift 2
    pids=() number=0
    for word in "$@"; do
        while [ "$(living "${pids[@]}")" -ge $((gpus * side)) ]; do sleep 0.5; done
        CUDA_VISIBLE_DEVICES=$((number % gpus)) \
            "$function" "$word" >>"$WORK/logs/$function.$word.log" 2>&1 &
        pids+=($!) number=$((number + 1))
    done
    number=0
    for word in "$@"; do
        if ! wait "${pids[$number]}"; then
            echo "$function $word failed:"
            tail -n 4 "$WORK/logs/$function.$word.log"
        fi
        number=$((number + 1))
    done
}

# The numbers of a training a line.
tell_trained() {
    for file in "$1"/*/training.json; do
        directory=$(dirname -- "$file")
        printf '%s: %s\n' "$(basename -- "$directory")" "$(tr -d '\n' <"$file" | tr -s ' ')"
        grep -ho "gpu_max_cached_mem_GB=[0-9.]*" "$directory/train.log" | tail -n 1
    done
}
