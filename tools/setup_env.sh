#!/bin/sh
# Make .venv: find a Python >= 3.12 that really runs and install the project with its recipes.
#
# usage: tools/setup_env.sh [--tests | --print-python]
#   --tests         install what the tests need too
#   --print-python  only print the Python that would be used; install nothing
#
# Done already (the stamp matches pyproject.toml, and has the extras): returns at once. A .venv
# without a stamp was interrupted and is made anew.
set -eu

say() { printf 'set-up: %s\n' "$1"; }

# Print the executable behind the command $1, if it is what we need. A command on PATH may
# be a shim that fails, a Python that its distribution ships without venv or ensurepip, or
# that of a virtual environment (even of our own .venv: its base is what we need).
working_python() {
    "$1" -c '
import sys, venv, ensurepip
if sys.version_info < (3, 12):
    sys.exit(1)
print(sys._base_executable)' 2>/dev/null
}

# Print the first Python that works. Python 3.12 comes first: it is what the tests run on.
find_python() {
    for candidate in python3.12 python3.13 python3.14 python3 python \
        "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.*/bin/python; do
        if working_python "$candidate"; then
            return 0
        fi
    done
    if managed=$(uv python find --system --no-project '>=3.12' 2>/dev/null); then
        working_python "$managed"
    else
        return 1
    fi
}

# As find_python; where uv is installed, let it fetch a Python before giving up.
find_or_fetch_python() {
    find_python && return 0
    uv python install --quiet 3.12 2>/dev/null && find_python
}

no_python() {
    echo "set-up: Python >= 3.12 (with venv) is needed and none runs here: install it by your" \
        "package manager, 'pyenv install 3.12' or 'uv python install 3.12', and call this again" >&2
    exit 1
}

install() {
    started=$(date +%s)
    python=$(find_or_fetch_python) || no_python
    if [ -e .venv/.complete ] && .venv/bin/python -c '' 2>/dev/null; then
        say "updating .venv: pyproject.toml has changed, or the tests' packages are missing"
    else
        say "making .venv with $python"
        "$python" -m venv --clear .venv
    fi
    rm -f .venv/.complete
    say "installing ESPnet, torch and the tools (about 3 GB; log: .venv/install.log)"
    # The recipes' torch is named first: pip would else begin with the newest one, in vain.
    torch=$(sed -n 's/^ *"\(torch==.*\)",$/\1/p' pyproject.toml)
    # The pipe only thins out pip's lines, so the stamp, not its exit code, tells success.
    # A torchaudio that was compiled for another torch installs, and does not load.
    {
        .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off \
            "$torch" --editable ".[$extras]" && .venv/bin/python -c 'import torchaudio' &&
            printf '%s %s\n' "$stamp" "$extras" >.venv/.complete
    } 2>&1 | tee .venv/install.log |
        awk '$1 == "Downloading" && $4 ~ /^[MG]B/ && substr($3, 2) + 0 >= 10 {
                 sub(/-.*/, "", $2); print "  fetching " $2, $3, $4; fflush() }
             /^Installing collected/ { print "  unpacking"; fflush() }
             $1 == "ERROR:" { print; fflush() }'
    if [ ! -e .venv/.complete ]; then
        echo "set-up: pip failed, or torchaudio does not load; all output is in" \
            ".venv/install.log" >&2
        exit 1
    fi
    say "done in $(($(date +%s) - started)) s"
}

extras=recipes
case "${1:-}" in
--print-python)
    find_python || no_python
    exit 0
    ;;
--tests) extras=recipes,cluster,demo,docs,espnet3,vad,test ;;
'') ;;
*)
    echo "usage: tools/setup_env.sh [--tests | --print-python]" >&2
    exit 2
    ;;
esac

cd -- "$(dirname -- "$0")/.."
stamp=$(cksum <pyproject.toml)
made=$(cat .venv/.complete 2>/dev/null || :)
case $made in
*,test) extras=recipes,cluster,demo,docs,espnet3,vad,test ;; # what is there stays
esac
if [ "$made" = "$stamp $extras" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi
install
