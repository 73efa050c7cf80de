# shellcheck shell=bash disable=SC2034
# How jobs run; sourced by the recipe's scripts. Jobs of this machine run inside the stages.
cmd_backend=${cmd_backend:-local}

if [ "${cmd_backend}" = local ]; then
    train_cmd=run.pl
    cuda_cmd=run.pl
    decode_cmd=run.pl
else
    echo "error: cmd_backend=${cmd_backend} is not supported yet: use local" >&2
    exit 1
fi
