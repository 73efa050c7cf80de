"""What ESPnet's training programs are told in each task."""

from pathlib import Path

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.jobs.marks import check_inputs
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages import s10_stats, s11_train

ARGV = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--ngpu", "0"]


def recipe_of(task, *argv, root=Path(".")):
    return Recipe(parse_options([*ARGV, *argv], task=task), root)


def command(stage, recipe):
    """The program, and name -> values of its arguments."""
    (part,) = stage.parts(recipe)
    (line,) = stage.commands(recipe, part)
    program, *words = line.split()
    values = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        values.setdefault(name.removeprefix("--"), []).append(value)
    return program, values, part


def test_translation_trains_on_two_texts():
    recipe = recipe_of(
        "st", "--src_token_type", "char", "--tgt_nbpe", "50", "--st_args", "--seed 1"
    )
    program, values, _ = command(s11_train, recipe)
    assert program == "st_train"
    assert values["train_data_path_and_name_and_type"] == [
        "dump/raw/train/wav.scp,speech,sound",
        "dump/raw/train/text.tc.en,text,text",
        "dump/raw/train/text.lc.rm.es,src_text,text",
    ]
    assert values["fold_length"] == ["80000", "150", "150"]
    assert values["train_shape_file"] == [
        f"exp/st_stats_raw_bpe50/train/{name}"
        for name in ("speech_shape", "text_shape.bpe", "src_text_shape.char")
    ]
    assert (values["token_type"], values["src_token_type"]) == (["bpe"], ["char"])
    assert values["src_bpemodel"] == ["none"]
    assert values["src_token_list"] == ["data/token_list/src_char/tokens.txt"]
    assert values["seed"] == ["1"]
    program, values, part = command(s10_stats, recipe)
    assert (program, values["collect_stats"]) == ("st_train", ["true"])
    assert Path("exp/st_stats_raw_bpe50/valid/src_text_shape.char") in part.outputs


def test_a_recogniser_gives_its_encoder(tmp_path):
    file = "exp/asr_x/valid.acc.ave.pth"
    recipe = recipe_of("st", "--pretrained_asr", f"{file}:encoder:encoder", root=tmp_path)
    _, values, part = command(s11_train, recipe)
    assert values["init_param"] == [f"{tmp_path / file}:encoder:encoder"]
    assert part.inputs[tmp_path / file] == 0
    for path in part.inputs:
        if path != tmp_path / file:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    with pytest.raises(UserError, match=r"exp/asr_x/valid.acc.ave.pth: no such file"):
        check_inputs(part)


def test_a_transcript_goes_with_its_options():
    options = ["--use_transcript", "true", "--two_pass", "true", "--token_type", "word"]
    program, values, _ = command(s11_train, recipe_of("slu", *options))
    assert program == "slu_train"
    assert values["transcript_token_list"] == ["data/transcript_token_list/word/tokens.txt"]
    assert (values["two_pass"], values["pre_postencoder_norm"]) == (["true"], ["false"])
    assert values["train_data_path_and_name_and_type"][-1] == (
        "dump/raw/train/transcript,transcript,text"
    )
    assert "two_pass" not in command(s11_train, recipe_of("slu"))[1]


def test_summarisation_knows_no_speech():
    program, values, part = command(s11_train, recipe_of("sum", "--token_joint", "true"))
    assert program == "mt_train"
    assert values["valid_data_path_and_name_and_type"] == [
        "dump/raw/dev/text,text,text",
        "dump/raw/dev/src_text,src_text,text",
    ]
    assert values["token_list"] == values["src_token_list"]
    assert values["bpemodel"] == values["src_bpemodel"]
    assert values["fold_length"] == ["150", "150"]
    assert not {"normalize", "frontend_conf"} & values.keys()
    assert all("wav.scp" not in str(path) for path in part.inputs)


def test_recognition_is_as_in_asr_sh():
    program, values, _ = command(s11_train, recipe_of("asr", "--audio_format", "flac.ark"))
    assert program == "asr_train"
    assert values["train_data_path_and_name_and_type"] == [
        "dump/raw/train/wav.scp,speech,kaldi_ark",
        "dump/raw/train/text,text,text",
    ]
    assert values["normalize_conf"] == ["stats_file=exp/asr_stats_raw_bpe30/train/feats_stats.npz"]
