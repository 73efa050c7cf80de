#!/usr/bin/env bash
# tuxpaint/asr1 with every attention kind, from scratch and on a frozen Whisper, on a GPU machine,
# which may have no network.
#
# usage: bench/tuxpaint_gpu.sh pack FILE      here, after stage 1 and import_whisper (README.md): a
#                                             tar of recordings as Opus and the encoder, 38 MB
#        bench/tuxpaint_gpu.sh run FILE OUT   there: train, decode, score; OUT gets results.tgz and
#                                             the parameters in float16, without Whisper's
# Environment of `run`:
#   MODELS     front end:kind:seed ...; default: whisper and fbank with mha gqa mla mtla mtla_s3,
#              and mha and mtla with a second seed
#   SIDE       trainings side by side on a GPU, default 4 (a GPU of 80 GB)
#   UNTIL_S    seconds from the start after which trainings are stopped, default 480; a second
#              `run` with the same OUT goes on, and averages and decodes those that are done
#   FINISH     1: average and decode what was stopped by its best epochs so far
#   WORK       where dump/ and exp/ are, default /dev/shm/tuxpaint
#   NGPU       0: on the CPU
#   ARGS       laid over every training configuration
set -uo pipefail

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
recipe=$checkout/egs2/tuxpaint/asr1
: "${MODELS:=whisper:mtla:0 fbank:mtla:0 whisper:mha:0 fbank:mha:0 whisper:gqa:0 fbank:gqa:0
    whisper:mla:0 fbank:mla:0 whisper:mtla_s3:0 fbank:mtla_s3:0 whisper:mha:1 fbank:mha:1
    whisper:mtla:1 fbank:mtla:1}"
: "${SIDE:=4}" "${UNTIL_S:=480}" "${FINISH:=0}" "${WORK:=/dev/shm/tuxpaint}" "${NGPU:=1}" "${ARGS:=}"

usage() {
    sed -n '5,8p' "${BASH_SOURCE[0]}" | cut -c 3- >&2
    exit 2
}

pack() {
    mkdir -p "$(dirname -- "$1")"
    file=$(cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
    cd "$recipe" || exit 1
    # shellcheck source=../egs2/TEMPLATE/asr1/path.sh
    . ./path.sh
    packed=$(mktemp -d) || exit 1
    trap 'rm -rf -- "$packed"' EXIT
    "$python" "$checkout/bench/tuxpaint_opus.py" . "$packed" || exit 1
    cp -r downloads/whisper-tiny.en "$packed/downloads/" || exit 1
    tar czf "$file" -C "$packed" data downloads
    ls -l "$file"
}

# Options of a model: front end, kind, seed.
model_options() {
    normalize=global_mvn
    [ "$1" != whisper ] || normalize=none
    options=(--expdir "$WORK/exp" --dumpdir "$WORK/dump" --audio_format wav
        --asr_config "conf/train_asr_$1.yaml" --attention "$2" --asr_args "--seed $3 $ARGS"
        --asr_exp "$WORK/exp/asr_$1_$2_seed$3" --asr_stats_dir "$WORK/exp/stats_$1"
        --feats_normalize "$normalize")
}

# Train a model until the time is up.
train() {
    IFS=: read -r front kind seed <<<"$1"
    model_options "$front" "$kind" "$seed"
    left=$((UNTIL_S - SECONDS))
    [ "$left" -gt 0 ] || { echo "$1: no time is left"; return 1; }
    timeout --kill-after 10 "$left" ./run.sh "${options[@]}" --stage 11 --stop_stage 11 --ngpu "$NGPU"
    code=$?
    [ $code -eq 0 ] || echo "$1: stopped (code $code)"
    return $code
}

# Average (what was stopped, by FINISH), decode and score a model.
decode() {
    IFS=: read -r front kind seed <<<"$1"
    model_options "$front" "$kind" "$seed"
    directory=$WORK/exp/asr_${front}_${kind}_seed$seed
    if [ ! -e "$directory/valid.acc.ave.pth" ]; then
        [ "$FINISH" = 1 ] && [ -f "$directory/training.json" ] || { echo "$1: not trained"; return 1; }
        epochs=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["epochs"])' \
            "$directory/training.json") || return 1
        keep=$((epochs < 5 ? epochs : 5))
        ARGS="$ARGS --max_epoch $epochs --keep_nbest_models $keep" model_options "$front" "$kind" "$seed"
        ./run.sh "${options[@]}" --stage 11 --stop_stage 11 --ngpu "$NGPU" || return 1
    fi
    on_gpu=true
    [ "$NGPU" != 0 ] || on_gpu=false
    ./run.sh "${options[@]}" --stage 12 --stop_stage 13 --gpu_inference "$on_gpu" --test_sets "valid test"
}

# Run a function on all models, `side` at a time on each GPU.
on_all() {
    function=$1 side=$2 number=0
    for model in $MODELS; do
        while [ "$(jobs -pr | wc -l)" -ge $((gpus * side)) ]; do wait -n; done
        CUDA_VISIBLE_DEVICES=$((number % gpus)) OMP_NUM_THREADS=1 \
            "$function" "$model" >>"$out/logs/$function.$model.log" 2>&1 &
        number=$((number + 1))
    done
    wait
}

run() {
    mkdir -p "$2/logs" "$WORK"
    out=$(cd -- "$2" && pwd)
    file=$(cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
    cd "$recipe" || exit 1
    [ -d downloads/opus ] || tar xzf "$file" || exit 1
    # shellcheck source=../egs2/TEMPLATE/asr1/path.sh
    . ./path.sh
    # For the frozen encoder, which mixed precision leaves in float32.
    export TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1
    gpus=1
    [ "$NGPU" = 0 ] || gpus=$(nvidia-smi -L | wc -l)
    for front in fbank whisper; do
        model_options "$front" mtla 0
        ./run.sh "${options[@]}" --stage 2 --stop_stage 10 --nj 8 >>"$out/logs/prepare.log" 2>&1 ||
            { tail -n 5 "$out/logs/prepare.log"; exit 1; }
    done
    echo "prepared after $SECONDS s"
    on_all train "$SIDE"
    echo "trained after $SECONDS s"
    on_all decode 1
    echo "decoded after $SECONDS s"
    tail -qn 1 "$out"/logs/*.log
    tar czf "$out/results.tgz" --exclude='*.pth' --exclude=tensorboard --exclude=images \
        --exclude='stats_*' --exclude=logdir -C "$WORK" exp -C "$out" logs
    for model in $MODELS; do
        directory=$WORK/exp/asr_${model//:/_}
        directory=${directory%_*}_seed${directory##*_}
        [ -f "$directory/valid.acc.ave.pth" ] || continue
        "$python" "$checkout/bench/half_weights.py" "$directory/valid.acc.ave.pth" \
            "$out/${directory##*/}.pth" frontend.encoder.
    done
    ls -l "$out"
}

if [ "${1:-}" = pack ] && [ $# -eq 2 ]; then
    pack "$2"
elif [ "${1:-}" = run ] && [ $# -eq 3 ]; then
    run "$2" "$3"
else
    usage
fi
