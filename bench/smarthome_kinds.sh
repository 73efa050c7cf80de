#!/usr/bin/env bash
# smarthome/{st1,slu1} with every attention kind side by side on one machine, each on two cores of
# its own: `run.sh --attention KIND` as on a laptop, all times measured under the same conditions;
# or trained all at once on GPUs, and only decoded on the cores.
#
# usage: bench/smarthome_kinds.sh OUT    prepare, train, decode, score; OUT gets logs/ and
#                                        results.tgz, whose recipes `mtla-espnet report` reads
# Environment:
#   RECIPES     asr1, st1, slu1; default: st1 slu1
#   KINDS       of conf/attention; default: mha gqa mqa mla mtla mtla_s3
#   SECOND      recipe:kind ... also trained with seed 1; default: st1:mha st1:mtla
#   FIRST_CORE  default 0
#   CORES       how many from there, default all; where that is fewer than two for each model, a
#               pair of cores takes one model after the other
#   NGPU        1: train on GPUs, all at once (see side_by_side.sh); default 0
#   UNTIL_S     seconds from the start after which trainings are stopped, default 480; a second
#               call goes on, and decodes what is done
#   WORK        where dump/ and exp/ of the recipes are, default /dev/shm/smarthome
#   DATA_ARGS   of `mtla-espnet prepare smarthome`, ARGS laid over every training configuration:
#               fewer utterances and epochs, to try it out
set -uo pipefail

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
: "${RECIPES:=st1 slu1}" "${KINDS:=mha gqa mqa mla mtla mtla_s3}" "${SECOND=st1:mha st1:mtla}"
: "${FIRST_CORE:=0}" "${CORES:=$(($(nproc --all) - FIRST_CORE))}"
: "${UNTIL_S:=480}" "${WORK:=/dev/shm/smarthome}" "${DATA_ARGS:=}" "${ARGS:=}" "${NGPU:=0}"
# shellcheck source=side_by_side.sh
. "$checkout/bench/side_by_side.sh"

if [ $# -ne 1 ] || [ "$CORES" -lt 2 ]; then
    sed -n '6,7p' "${BASH_SOURCE[0]}" | cut -c 3- >&2
    exit 2
fi

# What all calls of a recipe say.
recipe_call() {
    call=("$checkout/egs2/smarthome/$1/run.sh" --ngpu "$NGPU"
        --dumpdir "$WORK/$1/dump" --expdir "$WORK/$1/exp")
}

# What all calls for a model, `recipe:kind:seed`, say.
model_call() {
    IFS=: read -r recipe kind seed <<<"$1"
    recipe_call "$recipe"
    call+=(--attention "$kind")
    arguments=$ARGS
    [ "$seed" = 0 ] || arguments="--seed $seed $ARGS"
    [ -z "$arguments" ] || call+=("--${recipe%1}_args" "$arguments")
}

# Stages 1 to 10, which all kinds share.
prepare() {
    recipe_call "$1"
    "${call[@]}" --stop_stage 10 --nj 8 --local_data_opts "--nj 8 $DATA_ARGS"
}

# Train a model until the time is up.
train() {
    model_call "$1"
    train_until "$1" "${call[@]}" --stage 11 --stop_stage 11
}

# Decode and score what is trained.
decode() {
    model_call "$1"
    "${call[@]}" --stage 12 --stop_stage 13
}

log_of() {
    echo "$out/logs/${1//:/_}.log"
}

mkdir -p "$1/logs" "$WORK"
out=$(cd -- "$1" && pwd)
# shellcheck source=../egs2/TEMPLATE/asr1/path.sh
. "$checkout/egs2/TEMPLATE/asr1/path.sh"
lscpu >"$out/logs/machine.txt"

read -ra recipes <<<"$RECIPES"
preparing=()
for recipe in "${recipes[@]}"; do
    prepare "$recipe" >>"$out/logs/prepare.$recipe.log" 2>&1 &
    preparing+=($!)
done
for job in "${preparing[@]}"; do
    wait "$job" || { tail -n 3 "$out"/logs/prepare.*.log; exit 1; }
done
echo "prepared after $SECONDS s"

models=()
for recipe in "${recipes[@]}"; do
    for kind in $KINDS; do models+=("$recipe:$kind:0"); done
    for pair in $SECOND; do
        [ "${pair%%:*}" != "$recipe" ] || models+=("$pair:1")
    done
done
if [ "$NGPU" != 0 ]; then
    find_gpus
    trap stop_mps EXIT
    start_mps "$out/logs/mps"
    for ((number = 0; number < ${#models[@]}; number++)); do
        CUDA_VISIBLE_DEVICES=$((number % gpus)) OMP_NUM_THREADS=1 \
            train "${models[number]}" >>"$(log_of "${models[number]}")" 2>&1 &
    done
    wait
    stop_mps
    echo "trained after $SECONDS s"
fi
export OMP_NUM_THREADS=2
pairs=$((CORES / 2))
for ((pair = 0; pair < pairs; pair++)); do
    (
        core=$((FIRST_CORE + 2 * pair))
        taskset -cp "$core,$((core + 1))" "$BASHPID" >/dev/null || exit 1
        for ((number = pair; number < ${#models[@]}; number += pairs)); do
            { [ "$NGPU" != 0 ] || train "${models[number]}"; } >>"$(log_of "${models[number]}")" 2>&1 &&
                decode "${models[number]}" >>"$(log_of "${models[number]}")" 2>&1
        done
    ) &
done
wait
echo "done after $SECONDS s"
for model in "${models[@]}"; do
    printf '%s: %s\n' "$model" "$(tail -n 1 "$(log_of "$model")")"
done
for recipe in "${recipes[@]}"; do
    "$python" -m mtla_espnet report "$WORK/$recipe"
done
tar czf "$out/results.tgz" --exclude='*.pth' --exclude=tensorboard --exclude=images \
    --exclude='*_stats_*' -C "$WORK" "${recipes[@]/%//exp}" -C "$out" logs
ls -l "$out/results.tgz"
