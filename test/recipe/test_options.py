"""The command line of a recipe."""

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import (
    check_supported,
    help_text,
    options_of,
    parse_options,
    sampling_rate,
    speed_factors,
)
from mtla_espnet.task import TASKS

TABLE = {option.name: option for group in options_of("asr").values() for option in group}


def values_of(option):
    default = option.default
    if isinstance(default, bool):
        return st.sampled_from(["true", "false"])
    if isinstance(default, float):
        return st.floats(0, 1e6).map(str)
    if default is None or isinstance(default, int):
        return st.integers(0, 10**6).map(str)
    if option.choices:
        return st.sampled_from(option.choices)
    texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)
    return texts.map(shlex.quote) if option.name.endswith(("_args", "_opts")) else texts


@st.composite
def assignments(draw):
    names = draw(st.lists(st.sampled_from(sorted(TABLE)), min_size=1))
    return [(name, draw(values_of(TABLE[name]))) for name in names]


@given(assignments())
def test_all_spellings_mean_the_same_and_the_last_one_wins(given_options):
    def parse(form):
        words = [word for name, value in given_options for word in form(name, value)]
        return parse_options(words)

    plain = parse(lambda name, value: [f"--{name}", value])
    assert plain == parse(lambda name, value: [f"--{name.replace('_', '-')}", value])
    assert plain == parse(lambda name, value: [f"--{name}={value}"])
    last = dict(given_options)
    for name, option in TABLE.items():
        value = getattr(plain, name)
        if name not in last:
            assert value == option.default
        else:
            assert type(value) is (int if option.default is None else type(option.default))
            assert str(value).lower() == last[name] or value == type(value)(last[name])


def test_an_option_like_value_is_a_value():
    assert parse_options(["--asr_args", "--max_epoch 3"]).asr_args == "--max_epoch 3"


@pytest.mark.parametrize(
    ("argv", "message", "code"),
    [
        (["--x", "1"], r"run.sh: invalid option --x", 1),
        (["--tokn_type=bpe"], r"invalid option --tokn_type \(nearest: 'token_type'\)", 1),
        (["stage"], "unexpected argument 'stage'", 2),
        (["--nj"], "option --nj needs a value", 2),
        (["--nj", "two"], "--nj must be a whole number, not 'two'", 2),
        (["--nj", "-1"], "--nj must be a number from 0 on", 2),
        (["--max_wav_duration", "inf"], "--max_wav_duration must be a number from 0 on", 2),
        (["--max_wav_duration", "x"], "--max_wav_duration must be a number, not 'x'", 2),
        (["--force", "True"], "--force must be true or false, not 'True'", 2),
        (["--force", "1"], "--force must be true or false, not '1'", 2),
        (["--stop", "3"], r"invalid option --stop \(nearest: 'stop_stage'\)", 1),
        (["--max_epoch", "3"], r'--max_epoch \(ESPnet.s: give it by --asr_args "--max_epoch', 1),
        (["--max_epochs", "3"], r'--max_epochs \(ESPnet.s: give it by --asr_args "--max_epoch', 1),
        (["--beam_size", "3"], r'give it by --inference_args "--beam_size ..."\)', 1),
        (["--lr", "3"], r'give it by --asr_args "--optim_conf lr=..."\)', 1),
        (
            ["--asr_args", "--seed", "3"],
            r"""unexpected argument .3.: quote what .* --asr_args "--seed 3"$""",
            2,
        ),
        (["--local_data_opts", '"'], """run.sh: --local_data_opts '"': No closing quotation""", 2),
        (["--local_score_opts", "it's"], "--local_score_opts .*: No closing quotation", 2),
        (["--lang", "a\0b"], "run.sh: --lang has a zero byte", 2),
        (["--lang", 256 * "x"], r"--lang: xxx.* has 256 bytes, .* of a file has 255 at most", 2),
        (["--pretrained_model", f"exp/{128 * 'ä'}/b"], "--pretrained_model: .* has 256 bytes", 2),
        (["--token_type", "hgf"], "--token_type must be one of bpe, char, word, phn", 2),
    ],
)
def test_what_cannot_be_parsed(argv, message, code):
    with pytest.raises(UserError, match=message) as caught:
        parse_options(argv)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)


def test_texts_that_are_no_names_may_be_long():
    long = " ".join(f"--x_{number} {number}" for number in range(99))
    assert parse_options(["--asr_args", long, "--bpe_nlsyms", 300 * "a,"]).asr_args == long
    assert parse_options(["--expdir", f"{255 * 'x'}/{255 * 'y'}"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--feats_type", "raw_copy"], "--feats_type raw_copy: not supported"),
        (["--use_word_lm", "true"], "--use_word_lm true: not supported, as in ESPnet"),
        (["--use_k2", "true"], "--use_k2 true: not supported: decoding is a beam search"),
        (["--skip_upload", "false"], "--skip_upload false: not supported: pack by --skip_packing"),
        (["--token_type", "whisper_en"], "--token_type whisper_en: not supported: its vocabulary"),
        (["--bpe_input_sentence_size", "9"], "9: not supported: give some of the lines as"),
        (["--use_streaming", "true"], "--use_streaming true: not supported: the decoder reads"),
    ],
)
def test_what_cannot_be_done_yet_is_said(argv, message):
    with pytest.raises(UserError, match=message) as caught:
        check_supported(parse_options(argv))
    assert caught.value.exit_code == 2


def test_the_defaults_are_supported():
    check_supported(parse_options([]))


def test_config_is_read_first_wherever_it_stands(tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text("nj: 3\ntest_sets: [a, b]\nforce: true\nlang: null\nfs: 8000\n")
    options = parse_options(["--nj", "5", "--config", str(path)])
    assert (options.nj, options.test_sets, options.force) == (5, "a b", True)
    assert (options.lang, options.fs) == ("", "8000")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("njj: 3\n", r"options.yaml: invalid option 'njj' \(nearest: 'nj'\)"),
        ("nj: x\n", "options.yaml: nj must be a whole number"),
        ("force: 1\n", "options.yaml: force must be true or false"),
    ],
)
def test_a_bad_config_is_named(tmp_path, text, message):
    path = tmp_path / "options.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        parse_options(["--config", str(path)])


@pytest.mark.parametrize("task", TASKS)
def test_help_has_every_option_once(task):
    assert parse_options(["--stage", "3", "--help"], task=task) is None
    names = re.findall(r"^  --(\w+)", help_text(task=task), re.MULTILINE)
    assert sorted(names) == sorted(vars(parse_options([], task=task)).keys() - {"task"})
    assert len(set(names)) == len(names)
    assert "{" not in help_text(task=task)
    check_supported(parse_options([], task=task))


def test_options_are_named_after_the_task_and_the_side():
    options = parse_options(["--st_config", "a", "--tgt-nbpe", "7"], task="st")
    assert (options.st_config, options.tgt_nbpe, options.src_nbpe) == ("a", 7, 30)
    for task, name in (
        ("asr", "st_config"),
        ("st", "nbpe"),
        ("slu", "pretrained_asr"),
        ("sum", "fs"),
        ("sum", "speed_perturb_factors"),
    ):
        with pytest.raises(UserError, match=f"run.sh: invalid option --{name} "):
            parse_options([f"--{name}", "1"], task=task)


@pytest.mark.parametrize("text", ["16", "k", "", "0", "-8k", "16m", "1.2.3k"])
def test_bad_rates(text):
    if text == "16":
        assert sampling_rate(text) == 16
        return
    with pytest.raises(UserError, match="--fs must be a rate"):
        sampling_rate(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.9 fast", "must be numbers from 0.1 to 10, not 'fast'"),
        ("-0.9", "not '-0.9'"),
        ("9e-1", "not '9e-1'"),
        ("0", "not '0'"),
        ("0.9 1.0 1", "'0.9 1.0 1' names a factor twice"),
    ],
)
def test_bad_speeds(text, message):
    with pytest.raises(UserError, match=f"^run.sh: --speed_perturb_factors .*{message}") as caught:
        speed_factors(text)
    assert caught.value.exit_code == 2
