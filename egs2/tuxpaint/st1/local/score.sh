#!/usr/bin/env bash
# Score what needs no model: the most frequent English text of training as every translation.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
exec "${python}" local/most_frequent.py data/train data/test "$(dirname -- "${!#}")/most_frequent"
