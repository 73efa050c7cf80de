"""Which parts of which stages another value of an option does anew."""

import dataclasses
import re
from types import ModuleType

import pytest

from mtla_espnet.jobs.marks import Mark, Part
from mtla_espnet.recipe.options import options_of, parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.runner.parts import parts_of
from mtla_espnet.runner.runner import BODIES, body_of
from mtla_espnet.task import TASKS

SETS = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test"]

# Stages that are done anew -> options: their results, inputs or directories are others.
ANEW = {
    "": (
        "stage stop_stage skip_stages skip_data_prep skip_train skip_eval skip_packing "
        "skip_upload_hf skip_upload bpe_input_sentence_size src_bpe_input_sentence_size "
        "tgt_bpe_input_sentence_size force dry_run parallel submit_training ngpu num_nodes "
        "save_interval_updates nj "
        "python allow_pipes max_unaligned "
        "use_word_lm use_ngram use_k2 use_streaming max_memory download_model "
        "trust_files"
    ),
    "1": "local_data_opts fairseq_dir",
    "2 3 4 10 11 12 13 14 15": "speed_perturb_factors",
    "3": "audio_format channel max_rejected",
    "3 4 5 6 8 9 10 11 12 13": "dumpdir",
    "3 4 5 6 8 9 10 11 12 13 14 15": "feats_type",
    "3 4 5 10 11": "src_lang src_case",
    "3 4 5 10 11 12": "use_transcript",
    "3 4 6 8 10 11 12 13 14 15": "tgt_case",
    "3 4 6 8 10 11 13": "tgt_lang",
    "3 4 6 10 11": "valid_set",
    "3 4 10 11": "train_set",
    "3 4 5 6 7 8 9 10 11 12 13 14 15": "fs",
    "3 8 12 13": "test_sets",
    "4": "min_wav_duration max_wav_duration max_src_words max_tgt_words",
    "5": (
        "bpe_char_cover bpe_nlsyms bpe_train_text oov blank sos_eos tgt_bpe_char_cover "
        "src_bpe_char_cover tgt_bpe_nlsyms src_bpe_nlsyms tgt_bpe_train_text "
        "src_bpe_train_text"
    ),
    "5 6 7 8 9 10 11 12 13 14 15": "token_type lang nbpe tgt_token_type tgt_nbpe",
    "5 6 7 9 10 11 12 13 14": "bpemode",
    "5 6 7 9 10 11 12 14": "tgt_bpemode",
    "5 10 11 14": "token_joint src_token_type src_nbpe src_bpemode",
    "6": "lm_train_text lm_dev_text",
    "6 7": "lm_stats_dir",
    "6 7 8 9 10 11 12 13 14 15": "expdir",
    "6 7 9 10 11": "g2p",
    "6 7 9 10 11 13": "cleaner",
    "6 7 9 10 11 13 14": "nlsyms_txt",
    "7": "num_splits_lm lm_fold_length",
    "7 8 12 13 14": "lm_config lm_args lm_tag lm_exp",
    "8": "lm_test_text",
    "8 12 13 14": "use_lm inference_lm",
    "9 12 13 14": "ngram_num ngram_exp",
    "10 11 12 13 14 15": "frontend",
    "10 11 14": "{model}_stats_dir",
    "11": (
        "pretrained_model ignore_init_mismatch num_splits_{model} "
        "{model}_speech_fold_length {model}_text_fold_length pretrained_asr two_pass "
        "pre_postencoder_norm"
    ),
    "11 12 13 14 15": "{model}_config {model}_args attention {model}_tag {model}_exp",
    "11 14": "feats_normalize",
    "12": "inference_nj gpu_inference batch_size batch_length",
    "12 13": "eval_valid_set inference_config inference_args inference_tag",
    "12 13 14": "inference_ngram",
    "12 13 14 15": "inference_{model}_model",
    "13": (
        "scorer score_opts local_score_opts detokenize bleu_tokenize unknown_intents rouge "
        "heading_mark"
    ),
    "15": "hf_repo",
}
# Where a task differs from that.
DIFFERENT = {
    "st": {
        "train_set": "3 4 5 10 11",
        "speed_perturb_factors": "2 3 4 5 10 11 12 13 14 15",
        "cleaner": "6 7 9 10 11",
        "nlsyms_txt": "6 7 9 10 11 14",
    },
    "slu": {"train_set": "3 4 10 11 13"},
    "sum": {
        "train_set": "3 4 5 10 11",
        "cleaner": "6 7 9 10 11",
        "nlsyms_txt": "6 7 9 10 11 14",
        "{model}_stats_dir": "10 11",
    },
}


def made(task, *argv):
    """Return stage -> what says how each of its parts is made."""
    argv = [*SETS, "--use_ngram", "true", "--hf_repo", "a/b", *argv]
    recipe = Recipe(parse_options(argv, task=task))
    result = {}
    for number in BODIES:
        if number in TASKS[task].left_out or (number == 2 and not recipe.sets.speed_factors):
            continue
        parts = parts_of(recipe, number, body_of(recipe, number))
        result[number] = {
            (str(part.directory), repr(part.options), repr(sorted(part.inputs))) for part in parts
        }
    return result


def other(option):
    """Return another value of an option, as a word."""
    default = option.default
    if isinstance(default, bool):
        return str(not default).lower()
    if isinstance(default, float):
        return "0.5"
    if default is None or isinstance(default, int):
        return "7"
    if option.name == "fs":
        return "8k"
    if option.name == "speed_perturb_factors":
        return "0.9 1.0"
    words = [word for word in option.choices if word != default and word not in option.unsupported]
    return words[0] if words else "else"


@pytest.mark.parametrize("task", TASKS)
def test_each_option_does_anew_what_depends_on_it(task):
    model, different = TASKS[task].model, DIFFERENT.get(task, {})
    base = made(task)
    wanted = {name: stages for stages, names in ANEW.items() for name in names.split()}
    for option in (option for options in options_of(task).values() for option in options):
        now = made(task, f"--{option.name}", other(option))
        found = " ".join(str(number) for number in now if now[number] != base.get(number))
        name = re.sub(rf"(?<![a-z]){model}(?![a-z])", "{model}", option.name)
        assert name in wanted, f"{option.name}: say in ANEW which stages it does anew"
        assert found == different.get(name, wanted[name]), option.name


def stage(**options):
    """Return the body of a stage 3 with one part."""
    module = ModuleType("stage")
    module.parts = lambda recipe: [Part(recipe.root / "x", {}, {}, [], **options)]
    return module


def test_a_part_has_the_options_that_the_table_gives_its_stage(tmp_path):
    recipe = Recipe(parse_options([*SETS, "--channel", "1"]), tmp_path)
    (part,) = parts_of(recipe, 3, stage(unread=("audio_format",)))
    assert part.options == {"channel": "1", "max_rejected": 1.0}


def test_an_option_that_a_mark_does_not_know_had_its_default(tmp_path):
    """A mark of before there was the option is valid while the option is as it was."""
    body = stage()
    (now,) = parts_of(Recipe(parse_options(SETS), tmp_path), 3, body)
    before = {name: value for name, value in now.options.items() if name != "channel"}
    mark = Mark(dataclasses.replace(now, options=before), 3, tmp_path)
    mark.begin()
    mark.finish()
    assert Mark(now, 3, tmp_path).missing_reason() is None
    (other_value,) = parts_of(Recipe(parse_options([*SETS, "--channel", "1"]), tmp_path), 3, body)
    assert Mark(other_value, 3, tmp_path).missing_reason() == "option.channel: 0 -> 1"
