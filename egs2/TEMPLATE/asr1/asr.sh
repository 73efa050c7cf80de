#!/usr/bin/env bash
# Run the stages of an ASR recipe. Called in the recipe's directory; --help lists the options.
set -euo pipefail

. ./path.sh
. ./cmd.sh
exec "${python}" -m mtla_espnet recipe asr "$@"
