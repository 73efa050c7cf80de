#!/bin/sh
# Test mtla_espnet.hf with another version of transformers than the one in .venv.
#
# usage: tools/test_transformers.sh VERSION      such as 5.17.0, the oldest
#
# The version is installed beside .venv, in a directory that is removed afterwards.
set -eu

if [ $# != 1 ]; then
    echo "usage: tools/test_transformers.sh VERSION" >&2
    exit 2
fi
cd -- "$(dirname -- "$0")/.."
beside=$(mktemp -d)
trap 'rm -rf "$beside"' EXIT
trap 'exit 130' INT TERM
# with what this version asks for: an older one needs an older huggingface-hub, for example
.venv/bin/python -m pip install --quiet --disable-pip-version-check --target "$beside" \
    "transformers==$1"
PYTHONPATH=$beside .venv/bin/python -c \
    'import transformers; print("transformers", transformers.__version__)'
PYTHONPATH=$beside .venv/bin/python -m pytest -q test/hf
