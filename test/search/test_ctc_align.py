"""The best path of CTC through a text, against all paths one by one."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.search.ctc_align import align, least_frames

BLANK = 0


def labelling(path):
    """What a path of frames says: equal neighbours are one label, blanks nothing."""
    return [label for label, _ in itertools.groupby(path) if label != BLANK]


def spans_of(path):
    """(label, first frame, frame after the last) of each label of a path."""
    found, frame = [], 0
    for label, frames in itertools.groupby(path):
        length = len(list(frames))
        if label != BLANK:
            found.append((label, frame, frame + length))
        frame += length
    return found


@given(
    st.integers(0, 6),
    st.lists(st.integers(1, 2), max_size=4),
    st.integers(0, 2**31),
)
@settings(deadline=None, print_blob=True)
def test_the_path_is_the_best_of_all(n_frames, labels, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n_frames, 3, generator=generator).mul(2).log_softmax(-1)
    paths = [
        path for path in itertools.product(range(3), repeat=n_frames) if labelling(path) == labels
    ]
    assert bool(paths) == (least_frames(labels) <= n_frames)
    if not paths:
        with pytest.raises(ValueError, match=f"{least_frames(labels)} are needed"):
            align(scores, labels, BLANK)
        return
    rows = torch.arange(n_frames)
    total = {path: float(scores[rows, list(path)].double().sum()) for path in paths}
    best = max(total, key=total.get)
    found = align(scores, labels, BLANK)
    assert len(found) == len(labels)
    # its spans stand for a path; of two that are equally good to rounding either will do
    path = [BLANK] * n_frames
    for label, span in zip(labels, found, strict=True):
        path[span.start : span.end] = [label] * (span.end - span.start)
    assert labelling(path) == labels
    assert total[tuple(path)] == pytest.approx(total[best], abs=1e-5) or labels == []
    for (label, start, end), span in zip(spans_of(path), found, strict=True):
        assert (span.start, span.end) == (start, end)
        assert span.confidence == pytest.approx(float(scores[start:end, label].mean().exp()))


def test_blank_may_be_any_label():
    scores = torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]]).log()
    (span,) = align(scores, [1], blank=2)
    assert (span.start, span.end, span.confidence) == (1, 2, pytest.approx(0.8))
