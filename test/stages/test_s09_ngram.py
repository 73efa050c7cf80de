"""Stage 9: KenLM gets tokens, and only whole files stay."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.data.text.token_list import build_token_list
from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import JobFailed
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.runner.runner import run_stage
from mtla_espnet.stages import s09_ngram

ARGV = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--use_ngram", "true"]
TEXTS = {"utt1": "ON OFF ON", "utt2": "UP", "utt3": "OFF DOWN UP", "utt4": "ON ON OFF"}

# Stand for KenLM's programs: what they are given, in its place in the output.
LMPLZ = """#!{python}
import sys
print("ARPA", *sys.argv[1:5])
print(sys.stdin.read(), end="")
"""
BUILD_BINARY = """#!{python}
import pathlib, sys
option, arpa, binary = sys.argv[1:]
pathlib.Path(binary).write_text("BINARY " + option + " " + pathlib.Path(arpa).read_text())
"""


@pytest.fixture
def root(tmp_path):
    write_table(tmp_path / "dump/raw/lm_train.txt", TEXTS)
    build_token_list(TEXTS.values(), tmp_path / "data/token_list/char", "char")
    build_token_list(TEXTS.values(), tmp_path / "data/token_list/word", "word")
    build_token_list(TEXTS.values(), tmp_path / "data/token_list/bpe_unigram13", "bpe", nbpe=13)
    return tmp_path


@pytest.fixture
def programs(tmp_path, monkeypatch):
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, text in (("lmplz", LMPLZ), ("build_binary", BUILD_BINARY)):
        (directory / name).write_text(text.format(python=sys.executable))
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory


def recipe_of(root, *argv):
    return Recipe(parse_options([*ARGV, *argv]), root)


def left(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_programs_get_tokens_and_write_both_files(root, programs):
    recipe = recipe_of(root, "--token_type", "char", "--ngram_num", "4", "--ngram_exp", "exp/n")
    run_stage(recipe, 9)
    assert left(root / "exp/n") == [
        *(".done.9", ".lock", "4gram.arpa", "4gram.bin", "ngram.log", "train.txt"),
    ]
    head, *lines = (root / "exp/n/4gram.arpa").read_text().splitlines()
    assert head == "ARPA -o 4 -S 20%"
    assert lines[0] == "O N <space> O F F <space> O N"
    assert len(lines) == len(TEXTS)
    assert (root / "exp/n/4gram.bin").read_text().startswith("BINARY -s ARPA -o 4")
    assert "# Ended (code 0)" in (root / "exp/n/ngram.log").read_text()


def test_bpe_gives_pieces(root, programs):
    run_stage(recipe_of(root, "--nbpe", "13"), 9)
    pieces = set((root / "data/token_list/bpe_unigram13/tokens.txt").read_text().split())
    _, *lines = (root / "exp/ngram/3gram.arpa").read_text().splitlines()
    for line, text in zip(lines, TEXTS.values(), strict=True):
        assert set(line.split()) <= pieces
        assert line.replace(" ", "").replace("▁", " ").strip() == text


def test_a_failure_names_the_log_and_leaves_no_model(root, programs):
    (programs / "build_binary").write_text("#!/bin/sh\necho no space >&2\nexit 3\n")
    with pytest.raises(JobFailed, match=r"build_binary failed with exit code 3, log is in .*/ngra"):
        run_stage(recipe_of(root, "--token_type", "word"), 9)
    assert left(root / "exp/ngram") == [".begun.9", ".lock", "ngram.log", "train.txt"]
    assert "no space" in (root / "exp/ngram/ngram.log").read_text()


def test_without_kenlm_one_line_says_how_to_get_it(root, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"needs KenLM's program lmplz.*https://github.com/kpu/ken"):
        run_stage(recipe_of(root, "--token_type", "word"), 9)


@pytest.mark.skipif(
    not all(map(shutil.which, s09_ngram.PROGRAMS)), reason="KenLM's programs are not on PATH"
)
def test_the_estimates_are_probabilities(root):
    run_stage(recipe_of(root, "--token_type", "word", "--ngram_num", "2"), 9)
    lines = (root / "exp/ngram/2gram.arpa").read_text().split("\\1-grams:\n")[1].split("\n\n")[0]
    table = {line.split("\t")[1]: float(line.split("\t")[0]) for line in lines.splitlines()}
    assert set(table) == {"<unk>", "<s>", "</s>", "ON", "OFF", "UP", "DOWN"}
    del table["<s>"]  # it is only ever given
    assert sum(10**value for value in table.values()) == pytest.approx(1, abs=1e-4)
    assert os.path.getsize(root / "exp/ngram/2gram.bin") > 0


def test_the_file_and_the_tag_of_decoding():
    recipe = recipe_of(Path("."), "--use_lm", "false")
    assert recipe.paths.inference_dir.name == "inference_ngram_ngram_3gram_asr_model_valid.acc.ave"
    assert recipe.paths.ngram_files == {"ngram_file": Path("exp/ngram/3gram.bin")}
    argv = ["--use_lm", "false", "--ngram_exp", "exp/mine", "--inference_ngram", "a/b.arpa"]
    recipe = recipe_of(Path("."), *argv)
    assert recipe.paths.inference_dir.name == "inference_ngram_mine_a_b_asr_model_valid.acc.ave"
    assert recipe.paths.ngram_files == {"ngram_file": Path("exp/mine/a/b.arpa")}
