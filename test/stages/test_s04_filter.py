"""Which utterances stage 4 keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages import s04_filter

ARGV = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--fs", "1000"]


@given(
    st.dictionaries(
        st.text("abc", min_size=1),
        st.tuples(st.integers(0, 20), st.sampled_from(["", "hi"])),
        min_size=1,
    ),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_every_utterance_is_kept_or_counted_once(utterances, least, most):
    samples = {key: value[0] for key, value in utterances.items()}
    text = {key: value[1] for key, value in utterances.items()}
    kept, dropped = s04_filter.keep(samples, [text], least, most)
    assert kept == {key for key in samples if least < samples[key] < most and text[key]}
    assert len(kept) + sum(dropped.values()) == len(samples)


@pytest.fixture
def recipe(tmp_path):
    directory = tmp_path / "dump/raw_1k/org/train"
    lengths = {"s-1": 100, "s-2": 101, "s-3": 5000, "s-4": 19999, "s-5": 20000}
    write_table(directory / "utt2num_samples", lengths)
    write_table(directory / "wav.scp", {key: f"{key}.flac" for key in lengths})
    write_table(directory / "text", {key: "" if key == "s-3" else "WORD" for key in lengths})
    write_table(directory / "utt2spk", {key: "s" for key in lengths})
    for name in ("feats_type", "audio_format"):
        (directory / name).write_text("raw\n")
    return Recipe(parse_options(ARGV), tmp_path)


def test_the_limits_are_strict_and_the_counts_are_said(recipe, tmp_path, capsys):
    part = s04_filter.parts(recipe)[0]
    s04_filter.run(recipe, part)
    for path in part.outputs:
        assert path.exists()
    for name in ("wav.scp", "text", "utt2spk", "utt2num_samples"):
        assert list(read_table(part.directory / name)) == ["s-2", "s-4"]
    assert read_table(part.directory / "spk2utt") == {"s": "s-2 s-4"}
    said = "train: 2 utterances kept; left out: 1 too short, 1 too long, 1 without text"
    assert said in capsys.readouterr().out
    lm_train = (tmp_path / "dump/raw_1k/lm_train.txt").read_text()
    assert lm_train == "s-1 WORD\ns-2 WORD\ns-4 WORD\ns-5 WORD\n"


def test_nothing_left_is_an_error(recipe):
    recipe.options.max_wav_duration = 0.05
    with pytest.raises(UserError, match="no utterance is left"):
        s04_filter.run(recipe, s04_filter.parts(recipe)[0])
