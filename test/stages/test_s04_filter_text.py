"""Which texts stage 4 keeps, and what stage 3 makes of their blanks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages import s03_format_text, s04_filter_text

ARGV = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test"]

words = st.lists(st.sampled_from(["a", "bc"]), max_size=5).map(" ".join)


@given(
    st.dictionaries(st.text("abc", min_size=1), st.tuples(words, words), min_size=1),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_every_text_is_kept_or_counted_once(texts, most_source, most_target):
    source = {key: pair[0] for key, pair in texts.items()}
    target = {key: pair[1] for key, pair in texts.items()}
    kept, dropped = s04_filter_text.keep(source, target, most_source, most_target)

    def fits(text, most):
        return bool(text) and (most == 0 or text.count(" ") < most)

    assert kept == {
        key for key in texts if fits(source[key], most_source) and fits(target[key], most_target)
    }
    assert len(kept) + sum(dropped.values()) == len(texts)
    assert dropped["empty"] == sum(not (pair[0] and pair[1]) for pair in texts.values())


@pytest.fixture
def recipe(tmp_path):
    options = parse_options([*ARGV, "--max_src_words", "2"], task="sum")
    recipe = Recipe(options, tmp_path)
    for name in ("train", "dev", "test"):
        document = {"d1": "a  b", "d2": "a b c", "d3": "a\tb ", "d4": ""}
        write_table(tmp_path / "data" / name / "src_text", document)
        write_table(tmp_path / "data" / name / "text", dict.fromkeys(document, "x  y"))
    return recipe


def run(stage, recipe):
    for part in stage.parts(recipe):
        stage.run(recipe, part)
        assert all(path.exists() for path in part.outputs)


def test_blanks_are_single_and_test_sets_stay_whole(recipe, tmp_path):
    run(s03_format_text, recipe)
    run(s04_filter_text, recipe)
    for name in ("train", "dev"):
        assert read_table(tmp_path / f"dump/raw/{name}/src_text") == {"d1": "a b", "d3": "a b"}
        assert read_table(tmp_path / f"dump/raw/{name}/text") == {"d1": "x y", "d3": "x y"}
    assert list(read_table(tmp_path / "dump/raw/test/src_text")) == ["d1", "d2", "d3", "d4"]
    lines = (tmp_path / "dump/raw/lm_train.txt").read_text().splitlines()
    assert lines == [f"d{number} x y" for number in range(1, 5)]


def test_nothing_left_is_an_error(recipe):
    run(s03_format_text, recipe)
    recipe.options.max_tgt_words = 1
    message = r"no text is left \(1 empty, 1 with a long source, 2 with a long target\)"
    with pytest.raises(UserError, match=message):
        run(s04_filter_text, recipe)
