"""Configurations: how overlays and arguments are laid over them."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.config import (
    apply_arguments,
    check_keys,
    differences,
    lay_attention,
    lay_frontend,
    nearest,
    split_arguments,
)
from mtla_espnet.files import UserError
from strategies import YAML_VALUES


@given(st.floats(1e-12, 1e12), st.sampled_from(["{:e}", "{:.0e}", "{:g}", "{}"]))
def test_numbers_that_yaml_reads_pass_and_others_are_caught(number, form):
    text = form.format(number)
    reads = not isinstance(yaml.safe_load(text), str)
    try:
        apply_arguments({}, f"--lr {text}", "--asr_args")
        passed = True
    except UserError:
        passed = False
    assert passed == reads


def test_check_keys_names_place_and_nearest():
    with pytest.raises(UserError) as caught:
        check_keys(["num_block"], ["num_blocks", "output_size"], "t.yaml", "encoder_conf")
    assert (
        str(caught.value) == "t.yaml: unknown key 'encoder_conf.num_block' (nearest: 'num_blocks')"
    )


def test_nearest_lists_all_where_none_is_near():
    assert nearest("zzz", ["b", "a"]) == "(legal: a, b)"


BASE = {
    "decoder": "decoder_only",
    "decoder_conf": {"attention": "mtla", "attention_conf": {"down_rate": 3}, "num_blocks": 2},
    "optim": "adam",
}


def test_overlay_takes_the_place_of_attention_and_its_whole_conf():
    laid = lay_attention(BASE, {"decoder_conf": {"attention": "mla"}}, "mla.yaml")
    assert laid["decoder_conf"] == {"attention": "mla", "attention_conf": {}, "num_blocks": 2}
    assert laid["optim"] == "adam"
    assert BASE["decoder_conf"]["attention"] == "mtla"


@pytest.mark.parametrize(
    ("config", "overlay", "message"),
    [
        (BASE, {"encoder": "x"}, "o.yaml: unknown key 'encoder'"),
        (BASE, {}, "o.yaml: must hold decoder_conf.attention"),
        (
            BASE,
            {"decoder_conf": {"attention": "mha", "num_blocks": 3}},
            "unknown key 'decoder_conf.num_blocks'",
        ),
        ({"decoder": "rnn"}, {"decoder_conf": {"attention": "mha"}}, "not 'rnn'"),
    ],
)
def test_overlay_that_does_not_fit_is_refused(config, overlay, message):
    with pytest.raises(UserError, match=message):
        lay_attention(config, overlay, "o.yaml")


def test_a_front_end_takes_the_place_of_all_that_the_one_before_had():
    config = {"frontend_conf": {"n_fft": 400}, "preencoder": "linear", "optim": "adam"}
    laid = lay_frontend(config, {"frontend": "fbank"}, "f.yaml")
    assert laid == {"frontend": "fbank", "optim": "adam"}
    assert "preencoder" in config
    for overlay, message in (
        ({"encoder": "x"}, "f.yaml: unknown key 'encoder'"),
        ({"frontend_conf": {}}, "f.yaml: must hold frontend"),
    ):
        with pytest.raises(UserError, match=message):
            lay_frontend(config, overlay, "f.yaml")


def test_arguments_are_laid_over_one_inner_key_at_a_time():
    config = {"encoder_conf": {"a": {"b": 1}, "c": 2}, "max_epoch": 9}
    text = "--encoder_conf a.d=[3] --encoder_conf '{c: 4}' --max_epoch=2 --init_param x y"
    assert apply_arguments(config, text, "--asr_args") == {
        "encoder_conf": {"a": {"b": 1, "d": [3]}, "c": 4},
        "max_epoch": 2,
        "init_param": ["x", "y"],
    }
    assert config == {"encoder_conf": {"a": {"b": 1}, "c": 2}, "max_epoch": 9}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--a 'x", "--asr_args: No closing quotation"),
        ("a 1", "--asr_args: expected --name value, not 'a'"),
        ("--max_epoch", "--asr_args: --max_epoch needs a value"),
        ("--a --b 3", "--asr_args: --a needs a value"),
        ("--a_conf 3", "--a_conf takes key=value, not '3'"),
        ("--a [", "--a: '\\[' is not a YAML value"),
    ],
)
def test_arguments_that_cannot_be_read(text, message):
    with pytest.raises(UserError, match=message) as caught:
        apply_arguments({}, text, "--asr_args")
    assert caught.value.exit_code == 2


def test_split_keeps_repeated_arguments():
    assert split_arguments("--x 1 --x=2 --y", "s") == [("x", ["1"]), ("x", ["2"]), ("y", [])]


@given(st.dictionaries(st.sampled_from("abc"), YAML_VALUES))
def test_a_configuration_does_not_differ_from_itself(config):
    assert differences(config, config) == []


def test_differences_name_what_came_went_and_changed():
    old = {"a": 1, "b": {"c": 1, "d": 2}, "e": {}}
    new = {"b": {"c": 2}, "e": {}, "f": None}
    assert differences(old, new) == [
        "a: 1 -> unset",
        "b.c: 1 -> 2",
        "b.d: 2 -> unset",
        "f: unset -> None",
    ]
    assert differences(old, new, ignored=["a", "b", "f"]) == []


def test_an_overlay_may_stack_frames():
    config = {"decoder": "decoder_only", "decoder_conf": {"num_blocks": 2, "prefix_stride": 3}}
    overlay = {"decoder_conf": {"attention": "mla", "attention_conf": {}, "prefix_stride": 2}}
    assert lay_attention(config, overlay, "mla_stride2.yaml")["decoder_conf"] == {
        "num_blocks": 2,
        "prefix_stride": 2,
        "attention": "mla",
        "attention_conf": {},
    }
    del overlay["decoder_conf"]["prefix_stride"]
    assert lay_attention(config, overlay, "mla.yaml")["decoder_conf"]["prefix_stride"] == 3
