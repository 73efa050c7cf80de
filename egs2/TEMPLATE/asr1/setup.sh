#!/usr/bin/env bash
# Make the directory of a new ASR recipe.
# usage: egs2/TEMPLATE/asr1/setup.sh egs2/<corpus>/asr1
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 egs2/<corpus>/asr1" >&2
    exit 2
fi
if [ -e "$1" ]; then
    echo "error: $1 exists already" >&2
    exit 1
fi
egs2=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
mkdir -p -- "$(dirname -- "$1")"
if [ "$(cd -- "$(dirname -- "$1")/.." && pwd)" != "${egs2}" ]; then
    echo "error: a recipe's directory is ${egs2}/<corpus>/asr1, not $1" >&2
    exit 2
fi
mkdir -p -- "$1/conf" "$1/local"
example=${egs2}/mini_an4/asr1
cp -- "${example}"/{asr.sh,path.sh,cmd.sh,db.sh,run.sh} "$1/"
cp -- "${example}"/conf/*.yaml "$1/conf/"
cp -- "${example}/local/data.sh" "$1/local/"
echo "$1: now fit run.sh, local/data.sh and conf/ to the corpus"
