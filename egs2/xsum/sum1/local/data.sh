#!/usr/bin/env bash
# Make data/{train,validation,test}; the options are those of
# `mtla-espnet prepare xsum --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=../../../TEMPLATE/asr1/db.sh
. ./db.sh
if [ -z "${XSUM}" ]; then
    echo "Fill the value of 'XSUM' of db.sh" >&2
    exit 1
fi
exec "${python}" -m mtla_espnet prepare xsum --downloads "${XSUM}" "$@"
