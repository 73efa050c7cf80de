#!/bin/sh
# Run shellcheck on every shell file of the checkout: *.sh, or a first line that names a shell.
set -eu
cd -- "$(dirname -- "$0")/.."

set --
while IFS= read -r file; do
    [ -f "$file" ] || continue # deleted, not yet in the index
    case ${file##*/} in
    *.sh) set -- "$@" "$file" ;;
    *.*) ;;
    *)
        if head -n 1 -- "$file" | grep -q '^#!.*sh\b'; then
            set -- "$@" "$file"
        fi
        ;;
    esac
done <<FILES
$(git ls-files --cached --others --exclude-standard)
FILES
.venv/bin/shellcheck --external-sources --source-path=SCRIPTDIR -- "$@"
echo "shellcheck: $# files are clean"
