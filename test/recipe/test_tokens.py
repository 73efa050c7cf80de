"""Text to tokens: stage 5 and training agree, because both ask ESPnet."""

import pytest

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.tokens import check_token_list, text_cleaner, tokenizer
from mtla_espnet.runner.runner import run_stage

ARGV = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--use_lm", "false"]
TEXTS = {"a": "<laugh> hi", "b": "hi <noise>", "c": "ah hi"}


@pytest.fixture
def root(tmp_path):
    write_table(tmp_path / "dump/raw/lm_train.txt", TEXTS)
    (tmp_path / "nlsyms.txt").write_text("<laugh>\n<noise>\n")
    return tmp_path


def recipe_of(root, *argv):
    return Recipe(parse_options([*ARGV, *argv]), root)


def token_list(root, *argv):
    recipe = recipe_of(root, *argv)
    run_stage(recipe, 5)
    return recipe.tokens.token_list.read_text().splitlines()[2:-1]


def test_symbols_are_one_character(root):
    argv = ["--token_type", "char", "--nlsyms_txt", "nlsyms.txt"]
    assert tokenizer(recipe_of(root, *argv))("<laugh> hi") == ["<laugh>", "<space>", "h", "i"]
    assert token_list(root, *argv) == ["h", "<space>", "i", "<laugh>", "<noise>", "a"]
    assert "<laugh>" not in token_list(root, "--token_type", "char")


def test_phonemes_that_the_text_holds_are_words(root):
    assert token_list(root, "--token_type", "phn") == ["hi", "<laugh>", "<noise>", "ah"]


def test_phonemes_are_made_of_the_text(root):
    pytest.importorskip("pypinyin")
    write_table(root / "dump/raw/lm_train.txt", {"a": "你好", "b": "你"})
    assert token_list(root, "--token_type", "phn", "--g2p", "pypinyin_g2p") == ["ni3", "hao3"]


def test_a_change_of_the_symbols_redoes_the_list(root, capsys):
    argv = ["--token_type", "char", "--nlsyms_txt", "nlsyms.txt"]
    token_list(root, *argv)
    token_list(root, *argv)
    assert "done already" in capsys.readouterr().out
    (root / "nlsyms.txt").write_text("<noise>\n")
    assert "<laugh>" not in token_list(root, *argv)


def test_symbols_that_bpe_keeps_whole_come_from_a_file_too(root):
    argv = ["--token_type", "bpe", "--nbpe", "10", "--bpe_nlsyms"]
    (root / "whole.txt").write_text("▁<laugh>\n\n<noise>\n")
    listed = token_list(root, *argv, "▁<laugh>,<noise>", "--lang", "a")
    assert {"▁<laugh>", "<noise>"} <= set(listed)
    assert token_list(root, *argv, "whole.txt") == listed


@pytest.mark.parametrize(
    ("argv", "lacking"),
    [
        (["--token_type", "char"], "char/tokens.txt: lacks 18.2 % .*'é' of 'b'"),
        (["--token_type", "word"], "word/tokens.txt: lacks 75 % .*'café' of 'b'"),
        (["--token_type", "bpe", "--nbpe", "8"], "bpe_unigram8/tokens.txt: lacks .*'é' of 'b'"),
    ],
)
def test_a_list_of_another_language_is_refused(root, argv, lacking):
    write_table(root / "dump/raw/lm_train.txt", {"a": "ac ef"})
    token_list(root, *argv)
    recipe, table = recipe_of(root, *argv), root / "text"
    write_table(table, {"a": "ac", "b": "ef ac"})
    check_token_list(recipe, recipe.texts[0], table)
    write_table(table, {"a": "ac", "b": "café", "c": "éa fa"})
    with pytest.raises(UserError, match=lacking):
        check_token_list(recipe, recipe.texts[0], table)


def test_what_cannot_be_used_is_named(root):
    assert text_cleaner("none")("Hello;  you") == "Hello;  you"
    with pytest.raises(UserError, match="--cleaner x: Not supported: type=x"):
        text_cleaner("x")
    with pytest.raises(UserError, match="--g2p x: Not supported: g2p_type=x"):
        tokenizer(recipe_of(root, "--token_type", "phn", "--g2p", "x"))


def test_the_list_that_a_model_was_trained_with_stays(root):
    argv = ["--token_type", "bpe", "--nbpe", "17"]
    token_list(root, *argv)
    recipe = recipe_of(root, *argv)
    exp_dir = recipe.root / "exp/asr_x"
    exp_dir.mkdir(parents=True)
    (exp_dir / "config.yaml").write_text(f"seed: 0\nbpemodel: {recipe.tokens.bpe_model}\n")
    before = recipe.tokens.bpe_model.read_bytes()
    run_stage(recipe, 5)  # done already
    write_table(root / "dump/raw/lm_train.txt", TEXTS | {"d": "high noise"})
    with pytest.raises(UserError, match="bpe.model: its text or options changed, and .*asr_x was"):
        run_stage(recipe, 5)
    assert recipe.tokens.bpe_model.read_bytes() == before
    run_stage(recipe_of(root, *argv, "--force", "true"), 5)
    assert recipe.tokens.bpe_model.read_bytes() != before


def test_a_number_of_pieces_that_cannot_be_names_its_option(root):
    with pytest.raises(UserError, match="^--nbpe 11 is out of range: this text allows 16 or more"):
        token_list(root, "--token_type", "bpe", "--nbpe", "11")
    recipe = Recipe(parse_options([*ARGV, "--tgt_nbpe", "11"], task="st"), root)
    with pytest.raises(UserError, match="^--tgt_nbpe 11 is out of range: this text allows 16"):
        run_stage(recipe, 5)
