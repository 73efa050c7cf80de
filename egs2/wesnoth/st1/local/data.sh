#!/usr/bin/env bash
# Make the data directories; the options are those of `mtla-espnet prepare wesnoth --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh
if [ -z "${WESNOTH}" ]; then
    echo "Fill the value of 'WESNOTH' of db.sh" >&2
    exit 1
fi
exec "${python}" -m mtla_espnet prepare wesnoth --downloads "${WESNOTH}" "$@"
