#!/usr/bin/env bash
# Score the slots of every set that is decoded in the experiment, which is the last argument.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
exec "${python}" local/slots.py "${!#}"
