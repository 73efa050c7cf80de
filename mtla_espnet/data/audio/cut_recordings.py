"""Cutting a long recording into pieces: at its quietest places, or at equal lengths."""

import math

import numpy as np

from mtla_espnet.files import UserError

CUTS = ("silence", "length", "none")

_FRAME_S = 0.01
# A pause shorter than that is part of speech.
_PAUSE_S = 0.2
# The first share of a piece that is not searched for a place to cut.
_KEPT = 0.5


def cut(
    samples: np.ndarray, rate_hz: int, longest_s: float, at: str = "silence"
) -> list[tuple[int, int]]:
    """Cut a recording into pieces that follow one another without a gap.

    A recording that is not longer than `longest_s` stays whole. At silence, a piece ends in the
    middle of the quietest 0.2 s of its second half, the latest such place of equal energy; so it
    is at most `longest_s` long, also where nobody pauses.

    Args:
        samples: (T,) of the recording, T >= 1.
        rate_hz: sampling rate.
        longest_s: of a piece, in seconds.
        at: `silence`; `length`: every piece but the last has `longest_s`; `none`: no cut.

    Returns:
        First sample and the one after the last of each piece.

    Raises:
        UserError: `at` is unknown, or `longest_s` is below 0.4 s.

    Example:
        >>> cut(np.zeros(10), 2, 2.0, "length")
        [(0, 4), (4, 8), (8, 10)]
    """
    if at not in CUTS:
        raise UserError(f"a recording is cut at {', '.join(CUTS)}, not at {at!r}")
    if not 2 * _PAUSE_S <= longest_s < math.inf:
        raise UserError(f"a piece is at least {2 * _PAUSE_S} s long, not {longest_s}")
    longest = int(longest_s * rate_hz)
    ends = [len(samples)]
    if at == "length":
        ends = [*range(longest, len(samples), longest), len(samples)]
    elif at == "silence" and len(samples) > longest:
        ends = [*_quiet_ends(samples, rate_hz, longest), len(samples)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _quiet_ends(samples: np.ndarray, rate_hz: int, longest: int) -> list[int]:
    """Return where the pieces but the last end."""
    frame = max(1, round(_FRAME_S * rate_hz))
    frames = len(samples) // frame
    energy = np.square(samples[: frames * frame], dtype=np.float64).reshape(frames, frame).sum(1)
    width = round(_PAUSE_S / _FRAME_S)
    total = np.concatenate([[0.0], np.cumsum(energy)])
    # energy of a pause that begins at a frame
    pause = total[width:] - total[:-width]
    ends, start = [], 0
    while len(samples) - start > longest:
        first = -(-(start + int(_KEPT * longest)) // frame)
        last = (start + longest) // frame - width
        candidates = pause[first : last + 1]
        if not len(candidates):
            end = start + longest
        else:
            latest = len(candidates) - 1 - int(candidates[::-1].argmin())
            end = (first + latest + width // 2) * frame
        ends.append(end)
        start = end
    return ends
