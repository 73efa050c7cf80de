"""A recipe on Fairseq's manifests: data, token list and configuration come from there."""

import numpy as np
import pytest

from audio_files import SPH, make_data_dir
from mtla_espnet.cli import main
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.data.text.token_list import build_token_list
from mtla_espnet.files import UserError
from mtla_espnet.recipe.load import load_recipe
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.runner.checks import check_needs
from mtla_espnet.runner.runner import run_recipe
from mtla_espnet.stages import s11_train

ARGV = [
    *("--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--use_lm", "false"),
    *("--ngpu", "0", "--nj", "1", "--fairseq_dir", "s2t"),
]
CONFIG = """
bpe_tokenizer: {bpe: sentencepiece, sentencepiece_model: spm.model}
vocab_filename: spm.txt
specaugment: {freq_mask_N: 1, freq_mask_F: 9}
transforms: {'*': [utterance_cmvn], _train: [utterance_cmvn, specaugment]}
sampling_beta: 3
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = {"train": ["a-1", "a-2"], "dev": ["b-1"], "test": ["c-1"]}
    for name, ids in sets.items():
        make_data_dir(tmp_path / "made" / name, dict.fromkeys(ids, SPH))
    paths = [f"made/{name}" for name in sets]
    assert main(["feats", "fbank-zip", *paths, "s2t", "--nj", "1"]) == 0
    build_token_list(["GO ON OFF GO"] * 3, tmp_path / "tokens", "bpe", nbpe=9)
    (tmp_path / "tokens/bpe.model").rename("s2t/spm.model")
    pieces = (tmp_path / "tokens/tokens.txt").read_text().split("\n")[2:-2]
    (tmp_path / "s2t/spm.txt").write_text("".join(f"{piece} 1\n" for piece in pieces))
    with open("s2t/config.yaml", "a") as stream:
        stream.write(CONFIG)
    return tmp_path


def run(*argv, last=5):
    run_recipe([*ARGV, "--stop_stage", str(last), *argv], ".")


def test_data_and_tokens_come_from_the_manifests(root, capsys):
    run("--feats_type", "fairseq_zip")
    out = capsys.readouterr().out
    assert "s2t/config.yaml: without effect here: sampling_beta" in out
    entries = read_table("dump/fairseq_zip/train/feats.scp")
    assert list(entries) == ["a-1", "a-2"]
    assert entries["a-1"].startswith(f"{root}/s2t/fbank80.zip:")
    assert read_table("dump/fairseq_zip/test/feats_shape") == {"c-1": "23,80"}
    tokens = (root / "data/token_list/bpe_fairseq/tokens.txt").read_text().split()
    pieces = [line.split()[0] for line in (root / "s2t/spm.txt").read_text().splitlines()]
    assert tokens == ["<blank>", "<unk>", *pieces, "<sos/eos>"]
    run("--feats_type", "fairseq_zip")
    assert capsys.readouterr().out.count("done already, skipped") == 4  # 1, 3, 4, 5


def test_its_configuration_lies_under_that_of_training(root):
    options = [*ARGV, "--feats_type", "fairseq_zip"]
    recipe = load_recipe(parse_options(options), root)
    assert recipe.train_config["normalize"] == "utterance_mvn"
    assert recipe.train_config["specaug_conf"]["freq_mask_width_range"] == [0, 9]
    assert recipe.normalization == {}
    command = s11_train.commands(recipe, s11_train.parts(recipe)[0])[0]
    assert "--normalize global_mvn" not in command
    assert f"--config {recipe.paths.exp_dir}/train.yaml" in command
    (root / "t.yaml").write_text("specaug: null\n")
    recipe = load_recipe(parse_options([*options, "--asr_config", "t.yaml"]), root)
    assert recipe.train_config["specaug"] is None


def test_its_global_statistics_are_used(root, capsys):
    np.savez(root / "s2t/gcmvn.npz", mean=np.zeros(80), std=np.ones(80))
    (root / "s2t/config.yaml").write_text(
        "global_cmvn: {stats_npz_path: gcmvn.npz}\ntransforms: {'*': [global_cmvn]}\n"
    )
    run("--feats_type", "fairseq_zip", "--token_type", "char")
    recipe = load_recipe(parse_options([*ARGV, "--feats_type", "fairseq_zip"]), root)
    (path,) = recipe.normalization
    assert np.load(path)["sum_square"].tolist() == [1.0] * 80
    command = s11_train.commands(recipe, s11_train.parts(recipe)[0])[0]
    assert f"--normalize global_mvn --normalize_conf stats_file={path}" in command


def test_mistakes_are_named(root):
    with pytest.raises(UserError, match=r"train.tsv: holds features: give --feats_type fairseq_z"):
        run()
    (root / "s2t/dev.tsv").unlink()
    recipe = load_recipe(parse_options(ARGV), root)
    with pytest.raises(UserError, match=r"s2t/dev.tsv: no such file: --fairseq_dir needs a man"):
        check_needs(recipe, [1])
    (root / "s2t/config.yaml").write_text("transforms: 3\n")
    with pytest.raises(UserError, match="config.yaml: transforms must hold"):
        load_recipe(parse_options(ARGV), root)
