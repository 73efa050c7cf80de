"""When each label of a text is spoken: the best path of CTC through it.

The path is found by `torchaudio.functional.forced_align` (CPU and CUDA), which torchaudio keeps
(pytorch/audio pull request 4147) after it had planned to drop it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """The frames in which the best path has a label.

    Attributes:
        start: the first frame.
        end: the frame after the last.
        confidence: geometric mean of the label's posteriors in these frames, 0 to 1.
    """

    start: int
    end: int
    confidence: float


def least_frames(labels: Sequence[int]) -> int:
    """Return how many frames a labelling needs: one a label, and a blank between equal ones.

    Example:
        >>> least_frames([3, 3, 4])
        4
    """
    return len(labels) + sum(one == next_ for one, next_ in zip(labels, labels[1:], strict=False))


def align(log_probability: Tensor, labels: Sequence[int], blank: int) -> list[Span]:
    """Return where CTC's most probable path through a labelling has each label.

    Time and memory grow as frames times labels.

    Args:
        log_probability: (T, V) log posteriors of the frames.
        labels: in 0 to V - 1, without blanks.
        blank: label of blank.

    Returns:
        A span a label, in order; they do not overlap.

    Raises:
        ValueError: there are fewer frames than the labels need.

    Example:
        >>> frames = torch.tensor([[.9, .1], [.2, .8], [.1, .9], [.7, .3]]).log()
        >>> (span,) = align(frames, [1], blank=0)
        >>> span.start, span.end, round(span.confidence, 2)
        (1, 3, 0.85)
    """
    if not labels:
        return []
    if len(log_probability) < least_frames(labels):
        raise ValueError(f"{len(log_probability)} frames, {least_frames(labels)} are needed")
    from torchaudio.functional import forced_align  # here: it takes seconds to load

    wanted = torch.tensor([list(labels)], dtype=torch.int32, device=log_probability.device)
    path, score = forced_align(log_probability[None].float().contiguous(), wanted, blank=blank)
    path, score = path[0].cpu(), score[0].cpu()
    starts = torch.cat([torch.tensor([True]), path[1:] != path[:-1]]).nonzero()[:, 0].tolist()
    return [
        Span(start, end, float(score[start:end].mean().exp()))
        for start, end in zip(starts, [*starts[1:], len(path)], strict=True)
        if path[start] != blank
    ]
