# shellcheck shell=bash
# Environment of a recipe, sourced by its scripts: `python` is one that has mtla_espnet.
export LC_ALL=C
export PYTHONIOENCODING=UTF-8
# No number of threads is set: jobs side by side take one each, training takes all. A thread
# that waits gives its core up soon: with another busy process on 2 cores, training took 18 s
# instead of 25 s; alone, the same.
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../.." && pwd)
export PYTHONPATH="${checkout}${PYTHONPATH:+:${PYTHONPATH}}"
if [ -n "${python:-}" ]; then
    : # the stages run local scripts by their own Python
elif [ -x "${checkout}/.venv/bin/python" ]; then
    python="${checkout}/.venv/bin/python"
elif python3 -c 'import sys, torch, espnet2; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
    python=python3
else
    echo "error: no Python with ESPnet here: run 'make env' in ${checkout}" >&2
    exit 1
fi
export python

if [ -f local/path.sh ]; then
    # shellcheck source=/dev/null
    . local/path.sh
fi
