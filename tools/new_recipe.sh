#!/bin/sh
# Make the directory of a new recipe, egs2/CORPUS/TASK1, from egs2/TEMPLATE/TASK1.
#
# usage: tools/new_recipe.sh CORPUS TASK [LANGUAGE [LANGUAGE]]
#   CORPUS    name of the corpus, such as my_corpus
#   TASK      asr, st, slu or sum: recognition, translation, understanding, summarisation
#   LANGUAGE  such as en; for st the spoken and the written one, such as fr en
#
# The model has MTLA. An epoch has 100 updates, whatever the size of the corpus, so that the
# learning rate's schedule, which counts updates, ends with the training. For asr and st there is
# a configuration with a frozen Whisper, too, as measured in egs2/tuxpaint.
set -eu

fail() {
    echo "error: $1" >&2
    exit "$2"
}

if [ $# -lt 2 ] || [ $# -gt 4 ]; then
    echo "usage: tools/new_recipe.sh CORPUS TASK [LANGUAGE [LANGUAGE]]" >&2
    exit 2
fi
corpus=$1 task=$2 source=${3:-en} target=${4:-de}
case $corpus in
[!A-Za-z]* | *[!A-Za-z0-9_-]* | '')
    fail "a corpus has letters, digits, - and _ in its name, and a letter first, not '$corpus'" 2
    ;;
esac
for language in "$source" "$target"; do
    case $language in
    *[!A-Za-z0-9-]* | '')
        fail "a language is a code such as en, not '$language'" 2
        ;;
    esac
done
# The recipe whose configurations a new one begins with: those that are measured.
case $task in
asr | st | slu) example=egs2/smarthome/${task}1 ;;
sum) example=egs2/pydocs/sum1 ;;
*) fail "no template for the task '$task': asr, st, slu and sum are there" 2 ;;
esac

case $task,$# in
st,3) fail "st needs two languages, the spoken and the written one, as in: st fr en" 2 ;;
st,*) [ "$source" != "$target" ] || fail "st: $source is the spoken and the written language" 2 ;;
*,4) fail "$task has one language, not two: $source, $target" 2 ;;
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
        -e "s/@source@/$source/g" -e "s/@target@/$target/g" \
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
cp -- "$example/conf/decode_$task.yaml" "$unfinished/conf/"
sed -e 's/attention: mha  /attention: mtla /' -e '/^num_iters_per_epoch:/d' \
    -e 's/^max_epoch:/num_iters_per_epoch: 100           # so that the schedule fits any corpus\n&/' \
    "$example/conf/train_$task.yaml" >"$unfinished/conf/train_$task.yaml"
pretrained=train_${task}_whisper.yaml
case $task in # the updates of an epoch there, by which its schedule ends with the training
asr) updates=112 ;;
st) updates=110 ;;
*) updates= ;;
esac
if [ -n "$updates" ]; then
    sed -e "s/^max_epoch:/num_iters_per_epoch: $updates\n&/" \
        "egs2/tuxpaint/${task}1/conf/$pretrained" >"$unfinished/conf/$pretrained"
fi
chmod 755 "$unfinished/run.sh" "$unfinished/$task.sh" "$unfinished/local/data.sh"
mkdir -p "egs2/$corpus"
mv -- "$unfinished" "$recipe"
echo "$recipe: name your table or folder in db.sh (local/data.sh reads it), and fit run.sh and conf/"
case $task in
asr | st)
    echo "Below some ten hours of speech, begin with a pretrained encoder (docs/own_corpus.md):"
    echo "  ./run.sh --${task}_config conf/$pretrained --feats_normalize none" \
        "--${task}_stats_dir exp/${task}_stats_whisper"
    echo "With more, from scratch: ./run.sh"
    ;;
slu) echo "Below some ten hours of speech, begin with a pretrained encoder: docs/own_corpus.md" ;;
esac
