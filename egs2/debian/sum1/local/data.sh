#!/usr/bin/env bash
# Make data/{train,valid,test}; the options are those of `mtla-espnet prepare debian --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh
if [ -z "${DEBIAN}" ]; then
    echo "Fill the value of 'DEBIAN' of db.sh" >&2
    exit 1
fi
exec "${python}" -m mtla_espnet prepare debian --downloads "${DEBIAN}" "$@"
