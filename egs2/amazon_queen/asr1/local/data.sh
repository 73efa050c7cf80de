#!/usr/bin/env bash
# Make the data directories; the options are those of `mtla-espnet prepare amazon_queen --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh
if [ -z "${QUEEN}" ]; then
    echo "Fill the value of 'QUEEN' of db.sh" >&2
    exit 1
fi
exec "${python}" -m mtla_espnet prepare amazon_queen --downloads "${QUEEN}" "$@"
