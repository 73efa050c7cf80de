#!/usr/bin/env bash
# Make data/{train,valid,test}; the options are those of `mtla-espnet prepare mini_an4 --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=../../../TEMPLATE/asr1/db.sh
. ./db.sh
if [ -z "${MINI_AN4}" ]; then
    echo "Fill the value of 'MINI_AN4' of db.sh" >&2
    exit 1
fi
exec "${python}" -m mtla_espnet prepare mini_an4 --downloads "${MINI_AN4}" "$@"
