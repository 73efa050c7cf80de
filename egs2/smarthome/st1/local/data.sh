#!/usr/bin/env bash
# Make data/{train,valid,test}; the options are those of `mtla-espnet prepare smarthome --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=../../../TEMPLATE/asr1/db.sh
. ./db.sh
if [ -z "${SMARTHOME}" ]; then
    echo "Fill the value of 'SMARTHOME' of db.sh" >&2
    exit 1
fi
exec "${python}" -m mtla_espnet prepare smarthome --task st --downloads "${SMARTHOME}" "$@"
