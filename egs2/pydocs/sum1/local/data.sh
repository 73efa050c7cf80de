#!/usr/bin/env bash
# Make data/{train,valid,test}; the options are those of `mtla-espnet prepare pydocs --help`.
set -euo pipefail

# shellcheck source=../../../TEMPLATE/asr1/path.sh
. ./path.sh
exec "${python}" -m mtla_espnet prepare pydocs --measured_sources conf/sources.txt "$@"
