#!/bin/sh
# Make the directory of a new recipe, egs2/CORPUS/TASK1, from egs2/TEMPLATE/TASK1.
#
# usage: tools/new_recipe.sh CORPUS TASK
#   CORPUS  name of the corpus, such as my_corpus
#   TASK    asr, st, slu or sum: recognition, translation, understanding, summarisation
set -eu

fail() {
    echo "error: $1" >&2
    exit "$2"
}

if [ $# -ne 2 ]; then
    echo "usage: tools/new_recipe.sh CORPUS TASK" >&2
    exit 2
fi
corpus=$1 task=$2
case $corpus in
[!A-Za-z]* | *[!A-Za-z0-9_-]* | '')
    fail "a corpus has letters, digits, - and _ in its name, and a letter first, not '$corpus'" 2
    ;;
esac
# The recipe whose configurations a new one begins with: those that are measured.
case $task in
asr | st | slu) example=egs2/smarthome/${task}1 ;;
sum) example=egs2/pydocs/sum1 ;;
*) fail "no template for the task '$task': asr, st, slu and sum are there" 2 ;;
esac

cd -- "$(dirname -- "$0")/.."
template=egs2/TEMPLATE/${task}1
recipe=egs2/$corpus/${task}1
if [ -e "$recipe" ]; then
    fail "$recipe exists already" 1
fi

# Made under another name first: an interrupted call leaves no half of a recipe.
unfinished=$(mktemp -d "egs2/.new.XXXXXX")
trap 'rm -rf -- "$unfinished"' EXIT
chmod 755 "$unfinished"
mkdir "$unfinished/conf" "$unfinished/local"
variable=$(printf '%s' "$corpus" | tr 'a-z-' 'A-Z_')
for file in README.md run.sh local/data.sh; do
    sed -e "s/@corpus@/$corpus/g" -e "s/@CORPUS@/$variable/g" \
        "$template/$file.in" >"$unfinished/$file"
done
# shellcheck disable=SC2016  # "$@" is for the file
printf '#!/usr/bin/env bash\nexec ../../TEMPLATE/%s1/%s.sh "$@"\n' "$task" "$task" \
    >"$unfinished/$task.sh"
for file in path.sh cmd.sh; do
    printf '# shellcheck shell=bash\n. ../../TEMPLATE/asr1/%s\n' "$file" >"$unfinished/$file"
done
printf '# shellcheck shell=bash disable=SC2034\n# Where the corpus is.\n%s=\n' "$variable" \
    >"$unfinished/db.sh"
cp -- "$example/conf/train_$task.yaml" "$example/conf/decode_$task.yaml" "$unfinished/conf/"
chmod 755 "$unfinished/run.sh" "$unfinished/$task.sh" "$unfinished/local/data.sh"
mkdir -p "egs2/$corpus"
mv -- "$unfinished" "$recipe"
echo "$recipe: fill in db.sh, write local/data.sh, and fit run.sh and conf/ to the corpus"
