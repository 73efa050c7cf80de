import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.audio.cut_recordings import cut
from mtla_espnet.files import UserError
from strategies import seeds

RATE_HZ = 1000


def noise(seconds, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE_HZ)).astype("float32")


@given(st.integers(1, 20_000), st.floats(0.4, 30.0), st.sampled_from(["silence", "length"]), seeds)
def test_pieces_tile_the_recording_and_none_is_too_long(length, longest_s, at, seed):
    samples = np.random.default_rng(seed).normal(0, 0.1, length).astype("float32")
    samples[length // 3 : length // 2] = 0
    pieces = cut(samples, RATE_HZ, longest_s, at)
    assert pieces[0][0] == 0 and pieces[-1][1] == length
    assert all(end == start for (_, end), (start, _) in zip(pieces, pieces[1:], strict=False))
    longest = int(longest_s * RATE_HZ)
    assert all(0 < end - start <= longest for start, end in pieces)
    # nothing is cut smaller than it must be
    assert all(end - start >= longest // 2 - 10 for start, end in pieces[:-1])
    if length <= longest:
        assert pieces == [(0, length)]


def test_a_pause_is_found():
    samples = noise(10)
    samples[3500:3900] = 0  # within the second half of the first five seconds
    samples[7000:7400] *= 0.01
    pieces = cut(samples, RATE_HZ, 5.0)
    assert 3500 <= pieces[0][1] <= 3900
    assert 7000 <= pieces[1][1] <= 7400
    assert len(pieces) == 3


def test_a_short_click_in_a_pause_is_avoided():
    samples = noise(6)
    samples[3000:3900] = 0
    samples[3700] = 0.9
    assert 3000 <= cut(samples, RATE_HZ, 5.0)[0][1] <= 3700


def test_equal_lengths():
    assert cut(noise(7), RATE_HZ, 3.0, "length") == [(0, 3000), (3000, 6000), (6000, 7000)]
    assert cut(noise(6), RATE_HZ, 3.0, "length") == [(0, 3000), (3000, 6000)]


def test_no_cut():
    assert cut(noise(7), RATE_HZ, 3.0, "none") == [(0, 7000)]


@pytest.mark.parametrize(
    ("longest_s", "at", "message"),
    [
        (3.0, "words", "is cut at silence, length, none, not at 'words'"),
        (0.3, "silence", "a piece is at least 0.4 s long, not 0.3"),
        (float("nan"), "length", "a piece is at least 0.4 s long, not nan"),
    ],
)
def test_mistakes(longest_s, at, message):
    with pytest.raises(UserError, match=message):
        cut(noise(1), RATE_HZ, longest_s, at)
