"""Names that are made of options are as long as a file system takes them."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.files import UserError, atomic_path
from mtla_espnet.recipe.load import load_recipe
from mtla_espnet.recipe.options import parse_options

ARGV = ["--train_set", "a", "--valid_set", "b", "--test_sets", "c"]


def load(root, *argv):
    return load_recipe(parse_options([*ARGV, *argv]), root)


@pytest.mark.parametrize(
    ("argv", "option"),
    [
        (["--asr_args", " ".join(f"--seed {number}" for number in range(1000, 1030))], "--asr_tag"),
        (["--asr_tag", "x" * 240], "--asr_tag"),
        (["--lang", "x" * 250], "--lang"),
        (["--lm_tag", "x" * 253], "--lm_tag"),
        (["--inference_tag", "x/" * 3000], "--inference_tag"),
        (["--inference_args", f"--ngram_file {'x' * 240}"], "--inference_tag"),
        (["--dumpdir", "/".join(["x" * 200] * 30)], "--dumpdir"),
    ],
)
def test_a_name_that_is_too_long_says_which_option_shortens_it(tmp_path, argv, option):
    with pytest.raises(UserError, match=option) as caught:
        load(tmp_path, *argv)
    assert caught.value.exit_code == 2 and len(str(caught.value)) < 250


@given(st.integers(150, 260))
def test_what_passes_can_be_written(tmp_path_factory, size):
    root = tmp_path_factory.mktemp("r")
    try:
        recipe = load(root, "--asr_tag", "x" * size, "--use_lm", "false")
    except UserError:
        with pytest.raises((OSError, UserError)), atomic_path(_pack(root, size)) as temporary:
            temporary.touch()
        return
    for path in (recipe.paths.packed_model, recipe.paths.inference_dir / "test"):
        with atomic_path(path) as temporary:
            temporary.touch()


def _pack(root, size):
    name = f"asr_{'x' * size}"
    os.makedirs(root / "exp", exist_ok=True)
    return root / "exp" / f"{name}_valid.acc.ave.zip"
