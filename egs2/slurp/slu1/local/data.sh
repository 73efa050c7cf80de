#!/usr/bin/env bash
# Make data/{train,devel,test} and the BPE model of their words; the options are those of
# `mtla-espnet prepare slurp --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=../../../TEMPLATE/asr1/db.sh
. ./db.sh
if [ -z "${SLURP}" ]; then
    echo "Fill the value of 'SLURP' of db.sh" >&2
    exit 1
fi
exec "${python}" -m mtla_espnet prepare slurp --downloads "${SLURP}" "$@"
