#!/usr/bin/env bash
# Make data/<mic>_{train,dev,eval}; the options are those of
# `mtla-espnet prepare ami --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=../../../TEMPLATE/asr1/db.sh
. ./db.sh
if [ -z "${AMI}" ]; then
    echo "Fill the value of 'AMI' of db.sh" >&2
    exit 1
fi
exec "${python}" -m mtla_espnet prepare ami --downloads "${AMI}" "$@"
