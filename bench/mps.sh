# shellcheck shell=bash
# Sourced by what trains several models side by side: NVIDIA's daemon (MPS) that lets processes
# share a GPU at the same time; without it they take turns.
#
# Environment: MPS (1: start it; 0: not; default: where it is installed), NGPU (0: no GPU, so no
# daemon), python (tries it out).
: "${MPS:=}"
mps=

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
