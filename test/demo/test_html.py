"""What the page shows: every word at its place, every letter as it is."""

import re
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.demo.html import answers_html, costs_html, error_html, waveform_svg
from mtla_espnet.demo.models import Answer
from mtla_espnet.inference.meter import Cost
from mtla_espnet.inference.pieces import Piece
from mtla_espnet.inference.times import Timed

MODEL = SimpleNamespace(name="mtla s=2: <exp>", tells_times=True)
TEXTS = st.text(min_size=1, max_size=8)


def answer(words, length_s, **cost):
    times = tuple(
        Timed(word, length_s * n / len(words), length_s * (n + 1) / len(words), 0.5)
        for n, word in enumerate(words)
    )
    piece = Piece(Path("a.wav"), 0.0, length_s, " ".join(words), True, times)
    return Answer((piece,), Cost(**cost))


@given(st.lists(TEXTS, min_size=1, max_size=5), st.integers(1, 40))
def test_words_are_shown_as_they_are_at_their_share_of_the_width(words, length_s):
    samples = np.zeros(100 * length_s, dtype=np.float32)
    shown = answers_html([(MODEL, answer(words, length_s))], samples, 100)
    found = re.findall(
        r'<span class="word[^>]*style="left:([\d.]+)%;width:([\d.]+)%">(.*?)</span>', shown, re.S
    )
    assert [unescape(text) for _, _, text in found] == words
    for number, (left, width, _) in enumerate(found):
        assert abs(float(left) - 100 * number / len(words)) < 0.01
        assert abs(float(width) - 100 / len(words)) < 0.01


@given(TEXTS)
def test_no_text_becomes_markup(text):
    shown = error_html(text) + costs_html([(SimpleNamespace(name=text), answer(["a"], 1.0))], 1.0)
    plain = re.sub(r"</?(?:p|table|tr|th|td)(?: class=\"\w+\")?>", "", shown)
    assert "<" not in plain and unescape(plain).count(text) >= 2


def test_costs_of_two_models_stand_side_by_side():
    one = answer(["a"], 2.0, encoder_s=0.5, search_s=1.0, cache_bytes_peak=8000)
    other = answer(["a"], 2.0, encoder_s=0.5, search_s=0.5)
    names = [SimpleNamespace(name="mha: x"), SimpleNamespace(name="transformer: y")]
    rows = re.findall(r"<tr>(.*?)</tr>", costs_html(list(zip(names, [one, other], strict=True)), 2))
    cells = [re.sub(r"<[^>]+>", "|", row).replace("||", "|").strip("|").split("|") for row in rows]
    assert cells[0] == ["mha: x", "transformer: y"]
    assert ["time", "1.500 s", "1.000 s"] in cells
    assert ["time / 2.0 s of audio", "0.750", "0.500"] in cells
    assert ["key/value cache, at most", "8 kB", "not measured"] in cells


def test_a_model_without_times_says_so():
    model = SimpleNamespace(name="st", tells_times=False)
    shown = answers_html([(model, answer(["a"], 1.0))], np.ones(8, dtype=np.float32), 8)
    assert "does not tell when words are spoken" in shown and 'class="word' not in shown


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=2500))
def test_a_waveform_has_a_line_a_column_inside_its_frame(samples):
    drawn = waveform_svg(np.array(samples, dtype=np.float32))
    lines = re.findall(r"M([\d.-]+) ([\d.-]+)V([\d.-]+)", drawn)
    assert len(lines) == min(1000, len(samples))
    for x, top, bottom in (map(float, line) for line in lines):
        assert 0 < x < 1000 and 0 <= top < bottom <= 61
