#!/usr/bin/env bash
# tuxpaint's two recipes on a GPU machine, which may have no network: recognition with every
# attention kind, from scratch and on a frozen Whisper, and translation that starts from it.
#
# usage: bench/tuxpaint_gpu.sh pack FILE        here, after stage 1 of asr1 and st1 and
#                                               import_whisper (README.md): a tar.xz of 36 MB with
#                                               recordings as Opus, data directories and encoder
#        bench/tuxpaint_gpu.sh train FILE OUT   there, in this order: features, language model, ASR
#        bench/tuxpaint_gpu.sh decode OUT       tune the search on valid, decode test
#        bench/tuxpaint_gpu.sh st OUT           train, decode and score translation
#        bench/tuxpaint_gpu.sh results OUT      parameters of KEEP in float16, without Whisper's,
#                                               as files of 15 MB: cat NAME.pth.* > NAME.pth
#
# Each writes OUT/results.tgz: exp/ without parameters, and logs. Each ends before its UNTIL_S, or
# soon after it; called again, it goes on.
# Environment:
#   WORK       where dump/ and exp/ are from call to call, default /dev/shm/tuxpaint
#   UNTIL_S    seconds from the start after which trainings are stopped (train: 480, st: 200), or no
#              other decode begins (decode: 540). Later phases average what was stopped.
#   MODELS     front end:kind:seed ...; default: whisper and fbank with mha gqa mla mtla mtla_s3,
#              and mha and mtla with a second seed
#   ST_MODELS  front end:kind:start ..., the start warm (the encoder of the ASR model with seed 0)
#              or cold; default: both with mha and mtla, and whisper:mtla:cold
#   SIDE       ASR trainings side by side on a GPU, default 7 (a GPU of 80 GB)
#   MPS        1: NVIDIA's daemon that lets processes share a GPU at the same time; 0: not;
#              default: where it is installed
#   WHISPER_EPOCHS, FBANK_EPOCHS    instead of those of the configuration, with its schedule
#   KEEP       directories below WORK whose parameters `results` gives, default
#              exp/asr_whisper_mtla_seed0 exp/asr_fbank_mtla_seed0
#   NGPU       0: on the CPU
#   ARGS       laid over every training configuration of ASR and ST, LM_ARGS of the language model
set -uo pipefail

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
corpus=$checkout/egs2/tuxpaint
# Two GPUs, taken in turn, have both front ends and all kinds.
: "${MODELS:=whisper:mtla:0 fbank:mtla:0 fbank:mha:0 whisper:mha:0 whisper:gqa:0 fbank:gqa:0
    fbank:mla:0 whisper:mla:0 whisper:mtla_s3:0 fbank:mtla_s3:0 fbank:mha:1 whisper:mha:1
    whisper:mtla:1 fbank:mtla:1}"
: "${ST_MODELS:=whisper:mtla:warm whisper:mha:warm fbank:mtla:warm fbank:mha:warm whisper:mtla:cold}"
: "${KEEP:=exp/asr_whisper_mtla_seed0 exp/asr_fbank_mtla_seed0}"
: "${SIDE:=7}" "${WORK:=/dev/shm/tuxpaint}" "${NGPU:=1}" "${ARGS:=}" "${LM_ARGS:=}"
: "${WHISPER_EPOCHS:=}" "${FBANK_EPOCHS:=}"
UPDATES_AN_EPOCH=112
cores=$(nproc --all) # without --all it would heed OMP_NUM_THREADS
TUNING_SIDE=3
# shellcheck source=side_by_side.sh
. "$checkout/bench/side_by_side.sh"

usage() {
    sed -n '5,13p' "${BASH_SOURCE[0]}" | cut -c 3- >&2
    exit 2
}

pack() {
    file=$(absolute "$1")
    cd "$corpus/asr1" || exit 1
    # shellcheck source=../egs2/TEMPLATE/asr1/path.sh
    . ./path.sh
    packed=$(mktemp -d) || exit 1
    trap 'rm -rf -- "$packed"' EXIT
    "$python" "$checkout/bench/speech_pack.py" "$packed" "$corpus/asr1" "$corpus/st1" || exit 1
    cp -r downloads/whisper-tiny.en "$packed/asr1/downloads/" || exit 1
    # Each recording's file is padded: xz leaves 20 of 28 MB.
    tar cJf "$file" -C "$packed" asr1 st1
    ls -l "$file"
}

# What all phases begin with.
begin() {
    phase=$1
    mkdir -p "$2" "$WORK/logs"
    out=$(absolute "$2")
    cd "$corpus/asr1" || exit 1
    # shellcheck source=../egs2/TEMPLATE/asr1/path.sh
    . ./path.sh
    export OMP_NUM_THREADS=1
    find_gpus
    on_gpu=true
    [ "$NGPU" != 0 ] || on_gpu=false
    trap stop_mps EXIT
}

# Options of a recogniser and its directory.
asr_options() {
    IFS=: read -r front kind seed <<<"$1"
    directory=$WORK/exp/asr_${front}_${kind}_seed$seed
    normalize=global_mvn epochs=$FBANK_EPOCHS
    [ "$front" != whisper ] || normalize=none epochs=$WHISPER_EPOCHS
    schedule=
    if [ -n "$epochs" ]; then
        steps="[0,400,$((UPDATES_AN_EPOCH * epochs)),1000000]"
        schedule="--max_epoch $epochs --scheduler_conf warmup_steps_list=$steps"
    fi
    options=(--expdir "$WORK/exp" --dumpdir "$WORK/dump" --audio_format wav --ngpu "$NGPU"
        --lm_exp "$WORK/exp/lm" --lm_args "$LM_ARGS"
        --asr_config "conf/train_asr_$front.yaml" --attention "$kind"
        --asr_args "--seed $seed $schedule $ARGS" --asr_exp "$directory"
        --asr_stats_dir "$WORK/exp/stats_$front" --feats_normalize "$normalize")
}

# Options of a translator and its directory.
st_options() {
    IFS=: read -r front kind start <<<"$1"
    directory=$WORK/st/exp/st_${front}_${kind}_$start
    normalize=global_mvn
    [ "$front" != whisper ] || normalize=none
    options=(--expdir "$WORK/st/exp" --dumpdir "$WORK/st/dump" --audio_format wav --ngpu "$NGPU"
        --st_config "conf/train_st_$front.yaml" --attention "$kind"
        --st_args "--seed 0 $ARGS" --st_exp "$directory"
        --st_stats_dir "$WORK/st/exp/stats_$front" --feats_normalize "$normalize")
    if [ "$start" = warm ]; then
        model=$WORK/exp/asr_${front}_${kind}_seed0/valid.acc.ave.pth
        started="$model:encoder:encoder"
        [ "$front" != whisper ] || started+=" $model:frontend:frontend" # the layers' weights
        options+=(--pretrained_asr "$started")
    fi
}

# Average a training by `xx_options` that was stopped: its best epochs so far.
average() {
    [ ! -e "$directory/valid.acc.ave.pth" ] || return 0
    [ -f "$directory/training.json" ] || { echo "$2: no epoch is trained"; return 1; }
    averaging=$(averaging_args "$directory/training.json") || return 1
    ARGS="$ARGS $averaging" "$1" "$2"
    ./run.sh "${options[@]}" --stage 11 --stop_stage 11
}

prepare() {
    asr_options "$1:mtla:0"
    ./run.sh "${options[@]}" --stage 10 --stop_stage 10 --nj 8
}

language_model() {
    asr_options fbank:mtla:0
    timeout --kill-after 10 $((UNTIL_S - SECONDS)) \
        ./run.sh "${options[@]}" --use_lm true --stage 6 --stop_stage 8 --nj 4
}

train_asr() {
    asr_options "$1"
    train_until "$1" ./run.sh "${options[@]}" --stage 11 --stop_stage 11
}

average_asr() {
    asr_options "$1"
    average asr_options "$1"
}

train() {
    file=$(absolute "$1")
    begin train "$2"
    : "${UNTIL_S:=480}"
    # For the frozen encoder, which mixed precision leaves in float32.
    export TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1
    "$python" -c 'import mtla_espnet.tasks' >/dev/null 2>&1 & # reads its files meanwhile
    imported=$!
    if [ ! -e downloads/.unpacked ]; then
        "$python" -m tarfile -e "$file" "$corpus" || exit 1
        touch downloads/.unpacked
        say unpacked
    fi
    asr_options fbank:mtla:0
    ./run.sh "${options[@]}" --stage 2 --stop_stage 5 --nj "$cores" >>"$WORK/logs/format.log" 2>&1 ||
        { tail -n 5 "$WORK/logs/format.log"; exit 1; }
    grep -h "finished in" "$WORK/logs/format.log"
    wait "$imported"
    say formatted
    start_mps "$WORK/logs/mps"
    on_all language_model 1 lm &
    language_model=$!
    sampler=
    if [ "$NGPU" != 0 ]; then
        nvidia-smi --query-gpu=timestamp,index,utilization.gpu,memory.used --format=csv,noheader \
            -l 10 >"$WORK/logs/gpu.csv" &
        sampler=$!
    fi
    on_all prepare 2 fbank whisper
    say prepared
    # shellcheck disable=SC2086
    on_all train_asr "$SIDE" $MODELS
    [ -z "$sampler" ] || { kill "$sampler"; tail -n 12 "$WORK/logs/gpu.csv"; }
    wait "$language_model"
    grep -h "perplexity\|PPL" "$WORK/logs/language_model.lm.log" | tail -n 1
    tell_trained "$WORK/exp"
    say trained
}

# Run the lines of files QUEUE.N, a process each, in turn on the GPUs.
run_queues() {
    pids=()
    for file in "$1".*; do
        number=${file##*.}
        log=$WORK/logs/${1##*/}.$number.log
        CUDA_VISIBLE_DEVICES=$((number % gpus)) "$python" "$checkout/bench/recipe_lines.py" \
            $((UNTIL_S - SECONDS)) <"$file" >>"$log" 2>&1 &
        pids+=($!)
    done
    wait "${pids[@]}"
    grep -h "^[0-9.]* s: \|^no time is left" "$WORK/logs/${1##*/}".*.log |
        sed "s|$WORK/exp/||" | grep -v ": done$"
}

tuning_table() {
    for file in "$WORK"/exp/asr_*/tune_*/org/valid/score_cer/result.txt; do
        awk -v OFS='\t' -v path="${file#"$WORK/exp/"}" '$2 == "Sum" {
            split(path, part, /\/tune_ctc|_lm|\/org/)
            print part[1], part[2], part[3], sprintf("%.4f", $11 / $5)}' "$file"
    done
}

# The CTC and LM weights with the lowest CER on valid, among those with a language model or without.
tuned() {
    awk -v experiment="$1" -v lm="$2" '$1 == experiment && ($3 > 0) == lm && (best == "" || $4 < best) {
        best = $4; chosen = $2 " " $3} END {print chosen ? chosen : "0.5 " 0.3 * lm}' "$WORK/tuning.tsv"
}

# The model of a front end that the search is tuned for: the first in MODELS.
tuned_model() {
    for model in $MODELS; do
        case $model in "$1":*) asr_options "$model" && basename -- "$directory" && return ;; esac
    done
}

decode() {
    begin decode "$1"
    : "${UNTIL_S:=540}"
    # shellcheck disable=SC2086
    on_all average_asr 16 $MODELS
    say averaged
    rm -f "$WORK"/tune.* "$WORK"/test.*
    search="--gpu_inference $on_gpu --batch_size 64 --stage 12 --stop_stage 13"
    number=0
    for front in fbank whisper; do
        model=$(tuned_model $front)
        [ -n "$model" ] || continue
        for ctc in 0.5 0.7 0.8 0.9; do
            for lm in 0 0.3 0.5; do
                echo "$WORK/exp/$model --test_sets valid --inference_tag" \
                    "tune_ctc${ctc}_lm$lm $search --use_lm true" \
                    "--inference_args '--ctc_weight $ctc --lm_weight $lm'" \
                    >>"$WORK/tune.$((number % (TUNING_SIDE * gpus)))"
                number=$((number + 1))
            done
        done
    done
    run_queues "$WORK/tune"
    tuning_table >"$WORK/tuning.tsv"
    cp "$WORK/tuning.tsv" "$out/"
    cat "$WORK/tuning.tsv"
    say tuned
    # What is published is measured alone on its GPU; with the language model first.
    for lm in 1 0; do
        number=0
        for model in $MODELS; do
            asr_options "$model"
            read -r ctc weight <<<"$(tuned "$(tuned_model "$front")" "$lm")"
            with="--use_lm false --inference_args '--ctc_weight $ctc'"
            [ $lm = 0 ] || with="--use_lm true --inference_args '--ctc_weight $ctc --lm_weight $weight'"
            [ ! -e "$directory/valid.acc.ave.pth" ] ||
                echo "$directory $search $with" >>"$WORK/test.$((number % gpus))"
            number=$((number + 1))
        done
    done
    run_queues "$WORK/test"
    for file in "$WORK"/exp/asr_*/decode_*/test/score_cer/result.txt; do
        awk -v path="${file#"$WORK/exp/"}" '$2 == "Sum" {
            sub("/test/score_cer/result.txt", "", path); printf "%.4f %s\n", $11 / $5, path}' "$file"
    done
    say decoded
}

prepare_st() {
    st_options "$1:mtla:cold"
    ./run.sh "${options[@]}" --stage 10 --stop_stage 10 --nj 8
}

translate() {
    st_options "$1"
    train_until "$1" ./run.sh "${options[@]}" --stage 11 --stop_stage 11
    average st_options "$1" || return 1
    ./run.sh "${options[@]}" --gpu_inference "$on_gpu" --stage 12 --stop_stage 13
}

st() {
    begin st "$1"
    : "${UNTIL_S:=200}"
    export TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1
    cd "$corpus/st1" || exit 1
    st_options fbank:mtla:cold
    ./run.sh "${options[@]}" --stage 2 --stop_stage 5 --nj "$cores" >>"$WORK/logs/format_st.log" 2>&1 ||
        { tail -n 5 "$WORK/logs/format_st.log"; exit 1; }
    ln -sfn ../asr1/downloads downloads
    on_all prepare_st 2 fbank whisper
    say prepared
    start_mps "$WORK/logs/mps"
    # shellcheck disable=SC2086
    on_all translate 4 $ST_MODELS
    tell_trained "$WORK/st/exp"
    for file in "$WORK"/st/exp/*/*/test/score_bleu/result.tc.txt; do
        grep -h '"name"\|"score"' "$file" | tr -d '",\n' | tr -s ' '
        echo " ${file#"$WORK/st/exp/"}"
    done
    grep -ho "always .*" "$WORK"/logs/translate.*.log | tail -n 1
    say translated
}

results() {
    begin results "$1"
    for name in $KEEP; do
        model=$WORK/$name/valid.acc.ave.pth
        [ -f "$model" ] || model=$WORK/$name/valid.loss.ave.pth # of a language model
        target=$WORK/$(basename -- "$name").pth
        "$python" "$checkout/bench/half_weights.py" "$model" "$target" frontend.encoder. || continue
        split -b 15000000 -d "$target" "$out/$(basename -- "$target")."
    done
}

# What there is so far, without parameters.
save_results() {
    stop_mps
    directories=(exp)
    [ ! -d "$WORK/st/exp" ] || directories+=(st/exp)
    tar czf "$out/results.tgz" --exclude='*.pth' --exclude=tensorboard --exclude=images \
        --exclude='stats_*' --exclude=logdir --exclude='lm_stats*' --exclude='tune_*' \
        -C "$WORK" "${directories[@]}" logs
    ls -l "$out"
    say ended
}

case "${1:-} $#" in
    "pack 2") pack "$2" ;;
    "train 3") train "$2" "$3" && save_results ;;
    "decode 2" | "st 2" | "results 2") "$1" "$2" && save_results ;;
    *) usage ;;
esac
