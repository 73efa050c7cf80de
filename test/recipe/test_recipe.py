"""Checks before stage 1, and the table that they use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.recipe.load import check_attention, check_train_keys, load_recipe
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.stages import s10_stats, s11_train

CHECKOUT = Path(__file__).resolve().parents[2]
ARGV = ["--train_set", "a", "--valid_set", "b", "--test_sets", "c", "--use_lm", "false"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"optin": 1}, r"t.yaml: unknown key 'optin' \(nearest: 'optim'\)"),
        ({"encoder": "confromer"}, r"t.yaml: encoder: unknown 'confromer' \(nearest: 'conformer'"),
        ({"encoder_conf": {"hiden": 1}}, "unknown key 'encoder_conf.hiden'"),
        ({"encoder": "conformer", "encoder_conf": 3}, "encoder_conf must hold"),
        ({"optim": "adam", "optim_conf": {"rate": 1}}, "unknown key 'optim_conf.rate'"),
        ({"decoder": "decoder_only", "decoder_conf": {"layers": 2}}, "'decoder_conf.layers'"),
        ({"decoder": ["rnn"]}, r"decoder: unknown \['rnn'\]"),
    ],
)
def test_keys_that_do_not_exist(config, message):
    with pytest.raises(UserError, match=message):
        check_train_keys(config, "t.yaml")


def test_keys_that_exist():
    check_train_keys(
        {
            "encoder": "conv1d_conformer",
            "encoder_conf": {"output_size": 16, "conv_strides": [2], "cnn_module_kernel": 3},
            "decoder": "decoder_only",
            "decoder_conf": {"attention": "mtla", "tie_embeddings": True},
            "scheduler": None,
            "specaug": "specaug",
            "specaug_conf": {"num_freq_mask": 1},
        },
        "t.yaml",
    )


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"attention": "mhha"}, "t.yaml: decoder_conf: .*'mhha'"),
        ({"attention_heads": 3}, "t.yaml: decoder_conf: .*3"),
        ({"attention_heads": "four"}, "decoder_conf.attention_heads must be a whole number"),
        ({"attention": "gqa", "attention_conf": {"heads": 2}}, "'heads'"),
    ],
)
def test_attention_that_cannot_be(conf, message):
    config = {"decoder": "decoder_only", "decoder_conf": conf}
    with pytest.raises(UserError, match=message):
        check_attention(config | {"encoder_conf": {"output_size": 16}}, "t.yaml")


def test_attention_and_arguments_are_laid_over_training_alone(tmp_path):
    (tmp_path / "t.yaml").write_text(
        "decoder: decoder_only\nencoder_conf: {output_size: 64}\nencoder: conv1d_conformer\n"
        "decoder_conf: {attention: mtla, attention_conf: {down_rate: 3}, attention_heads: 4}\n"
    )
    (tmp_path / "mla.yaml").write_text("decoder_conf: {attention: mla}\n")
    (tmp_path / "d.yaml").write_text("beam_size: 3\n")
    argv = [*ARGV, "--asr_config", "t.yaml", "--attention", "mla.yaml"]
    argv += ["--asr_args", "--decoder_conf attention_conf.kv_lora_rank=32 --seed 7"]
    argv += ["--inference_config", "d.yaml", "--inference_args", "--ctc_weight 0.1"]
    recipe = load_recipe(parse_options(argv), tmp_path)
    assert recipe.train_config["decoder_conf"] == {
        "attention": "mla",
        "attention_conf": {"kv_lora_rank": 32},
        "attention_heads": 4,
    }
    assert recipe.train_config["seed"] == 7
    assert "seed" not in recipe.laid_config
    assert recipe.laid_config["decoder_conf"]["attention_conf"] == {}
    assert recipe.inference_config == {"beam_size": 3, "ctc_weight": 0.1}


@pytest.mark.parametrize(
    ("written", "arguments", "message"),
    [
        ("maxlenratio: 1.0e+9", "", "^d.yaml: maxlenratio must be in -100000 to 20, not"),
        ("lm_weight: -1", "", "^d.yaml: lm_weight must be in 0 to 100, not -1$"),
        ("beam_size: 3", "--nbest 0", "^d.yaml with --inference_args: nbest must be in 1 to 10000"),
    ],
)
def test_what_no_search_can_do_is_told_before_stage_1(tmp_path, written, arguments, message):
    (tmp_path / "d.yaml").write_text(f"{written}\n")
    argv = [*ARGV, "--inference_config", "d.yaml", "--inference_args", arguments]
    with pytest.raises(UserError, match=message):
        load_recipe(parse_options(argv), tmp_path)


@pytest.mark.parametrize(
    ("task", "argv", "message"),
    [
        ("slu", ["--two_pass", "true"], "--two_pass true needs --use_transcript true"),
        (
            "st",
            ["--token_joint", "true", "--src_nbpe", "50"],
            "--src_nbpe 50: with --token_joint true the options of the target hold for both",
        ),
        ("st", ["--src_lang", "en", "--src_case", "tc"], "are the same language and case"),
        ("st", ["--st_args", "--optin adam"], r"--st_args: unknown key 'optin' \(nearest: 'optim'"),
        (
            "st",
            ["--st_args", "--model_conf asr_weight=0.3"],
            "model_conf.asr_weight with mtlalpha below 1 needs extra_asr_decoder; say mtlalpha: 1",
        ),
        ("st", ["--st_args", "--model_conf mtlalpha=a"], "mtlalpha must be a number, not 'a'"),
        (
            "st",
            ["--st_args", "--model_conf mtl_alpha=1.0"],
            r"'model_conf.mtl_alpha' \(nearest: 'mtlalpha'",
        ),
        ("sum", ["--mt_args", "--normalize global_mvn"], "--mt_args: unknown key 'normalize'"),
    ],
)
def test_options_of_one_task_that_cannot_be(task, argv, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load_recipe(parse_options([*ARGV, *argv], task=task), tmp_path)


@pytest.mark.espnet
def test_the_table_is_that_of_the_installed_espnet():
    script = CHECKOUT / "tools/espnet_options.py"
    done = subprocess.run(
        [sys.executable, str(script), "--print"], capture_output=True, text=True, check=True
    )
    committed = (CHECKOUT / "mtla_espnet/recipe/espnet_options.json").read_text()
    assert json.loads(done.stdout) == json.loads(committed)


def test_a_front_end_is_laid_over_statistics_and_training(tmp_path):
    (tmp_path / "t.yaml").write_text("frontend_conf: {n_fft: 400}\nencoder: conformer\n")
    argv = [*ARGV, "--asr_config", "t.yaml", "--frontend"]
    fbank = str(CHECKOUT / "conf/frontend/fbank.yaml")
    recipe = load_recipe(parse_options([*argv, fbank]), tmp_path)
    assert recipe.train_config == {"encoder": "conformer", "frontend": "fbank"}
    assert (recipe.tags.experiment, recipe.paths.stats_dir.name) == (
        "t_raw_bpe30_fbank",
        "asr_stats_raw_bpe30_fbank",
    )
    for stage in (s10_stats, s11_train):
        (part,) = stage.parts(recipe)
        assert f"--config {part.directory}/train.yaml" in stage.commands(recipe, part)[0]
    (tmp_path / "f.yaml").write_text("frontend: fbank\nfrontend_conf: {n_fft: 400}\n")
    with pytest.raises(UserError, match=r"f.yaml: unknown key 'frontend_conf.n_fft'"):
        load_recipe(parse_options([*argv, "f.yaml"]), tmp_path)
    with pytest.raises(UserError, match=r"--frontend fbnk: no such file, and no such name"):
        load_recipe(parse_options([*argv, "fbnk"]), tmp_path)
    with pytest.raises(UserError, match="turns audio into features, and --feats_type extracted"):
        load_recipe(parse_options([*argv, fbank, "--feats_type", "extracted"]), tmp_path)
