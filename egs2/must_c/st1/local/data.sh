#!/usr/bin/env bash
# Make data/{train,dev,tst-COMMON,tst-HE}.en-<tgt_lang>; the options are those of
# `mtla-espnet prepare must_c --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=../../../TEMPLATE/asr1/db.sh
. ./db.sh
if [ -z "${MUST_C}" ]; then
    echo "Fill the value of 'MUST_C' of db.sh" >&2
    exit 1
fi
exec "${python}" -m mtla_espnet prepare must_c --downloads "${MUST_C}" "$@"
