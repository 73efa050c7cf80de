#!/usr/bin/env bash
# Run the stages of an ST recipe. Called in the recipe's directory; --help lists the options.
set -euo pipefail

# shellcheck source=../asr1/path.sh
. ./path.sh
# shellcheck source=../asr1/cmd.sh
. ./cmd.sh
exec "${python}" -m mtla_espnet recipe st "$@"
