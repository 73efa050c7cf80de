#!/bin/sh
# The embedded recipes of the four tasks: recognition, translation, understanding and
# summarisation, each with MHA and with MTLA, and one table over all. Called again after an
# interruption, it goes on where it stopped.
#
# usage: tools/demo_all.sh  (make demo-all, which makes .venv first)
set -eu
cd -- "$(dirname -- "$0")/.."
PATH=$PWD/.venv/bin:$PATH
cd egs2

set -- smarthome/asr1 smarthome/st1 smarthome/slu1 pydocs/sum1
for recipe; do
    for attention in mha mtla; do
        printf '\n== %s with %s\n' "$recipe" "$attention"
        "$recipe/run.sh" --attention "$attention"
    done
done
mtla-espnet report "$@"
