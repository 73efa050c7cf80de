# shellcheck shell=bash disable=SC2034
# Where jobs run; sourced by the recipe's scripts. local: inside the stages, on this machine;
# slurm, sge, ssh: as `--parallel conf/parallel/<name>.yaml`, the recipe's own or the project's.
cmd_backend=${cmd_backend:-local}

train_cmd=run.pl
cuda_cmd=run.pl
decode_cmd=run.pl
case ${cmd_backend} in
local) ;;
slurm | sge | ssh)
    parallel=conf/parallel/${cmd_backend}.yaml
    [ -e "${parallel}" ] || parallel=../../../${parallel}
    set -- --parallel "${parallel}" "$@" # the scripts pass their options on; the last one wins
    ;;
*)
    echo "error: cmd_backend=${cmd_backend} is not supported: use local, slurm, sge or ssh" >&2
    exit 1
    ;;
esac
