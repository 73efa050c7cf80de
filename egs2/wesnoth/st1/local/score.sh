#!/usr/bin/env bash
# Score what needs no model: the English text as it is, and the most frequent German text of training.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
exec "${python}" local/baselines.py data "$(dirname -- "${!#}")/baselines"
