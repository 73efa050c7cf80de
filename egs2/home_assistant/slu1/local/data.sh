#!/usr/bin/env bash
# Make the data directories; the options are those of `mtla-espnet prepare home_assistant --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh
if [ -z "${HOME_ASSISTANT}" ]; then
    echo "Fill the value of 'HOME_ASSISTANT' of db.sh" >&2
    exit 1
fi
exec "${python}" -m mtla_espnet prepare home_assistant --downloads "${HOME_ASSISTANT}" "$@"
