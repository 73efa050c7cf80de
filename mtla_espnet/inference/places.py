"""Where the words of a text are in a recording: by the frames that CTC's scores depend on.

CTC's loss asks an encoder that hears the whole utterance for the labels in their order. It may
write a label long after it is spoken. Which input made it write the label is told by the gradient
of the label's score. Words are laid over the frames in order, without gaps but for pauses: each
where most of its gradient is, and about as long as its letters let expect.
"""

import numpy as np

# Chosen on the validation set of smarthome, whose voices are not in the test set.
_WEIGHT = 0.1  # of the lengths, against shares of the gradient
_DEVIATION = 0.35  # of the logarithm of a length from what is expected
_SMOOTHING = 3.0  # frames, standard deviation
_LONGEST = 6  # times the expected length
# A frame is quiet below so much of the way from its quiet to its loud frames, in log energy.
_QUIET, _QUANTILES = 0.2, (0.1, 0.95)
_PAUSE_S = 0.15  # closures of stops are shorter


def places(evidence: np.ndarray, is_pause: np.ndarray, sizes: np.ndarray) -> np.ndarray | None:
    """Return the frames of each word.

    Args:
        evidence: (U, T) how much the score of each word depends on each frame, >= 0.
        is_pause: (T,) bool: nobody speaks.
        sizes: (U,) lengths of the words, in any unit, > 0.

    Returns:
        (U, 2) first frame and the one after the last; in order, without overlap. None: there are
        more words than frames.

    Example:
        >>> heard = np.zeros((2, 60))
        >>> heard[0, 5:25], heard[1, 40:55] = 1, 1
        >>> pause = np.arange(60) >= 56
        >>> pause[26:38] = True
        >>> places(heard, pause, np.array([1, 1])).tolist()
        [[0, 26], [38, 56]]
    """
    kept = np.flatnonzero(~is_pause)
    if len(kept) < len(sizes):
        kept = np.arange(len(is_pause))
    if len(kept) < len(sizes):
        return None
    share = _smoothed(evidence)[:, kept]
    share = share / np.maximum(share.sum(1, keepdims=True), np.finfo(np.float64).tiny)
    bounds = _bounds(share - share.mean(0), len(kept) * sizes / sizes.sum())
    return np.stack([kept[bounds[:-1]], kept[bounds[1:] - 1] + 1], axis=1)


def pauses(samples: np.ndarray, frames: int, length_s: float) -> np.ndarray:
    """Return in which of equally long frames nobody speaks: (frames,) bool.

    Quiet is meant against the loud and the quiet frames of the recording itself.

    Args:
        samples: (N,) of the recording.
        frames: that it is divided into.
        length_s: of the recording.
    """
    edges = np.linspace(0, len(samples), frames + 1).astype(int)[:-1]
    # differences weigh high frequencies more, where consonants are
    samples = samples.astype(np.float64)  # integers would overflow
    power = np.square(np.diff(samples, prepend=samples[:1]))
    energy = np.log(np.add.reduceat(power, np.minimum(edges, len(samples) - 1)) + 1e-10)
    low, high = np.quantile(energy, _QUANTILES)
    quiet = energy < low + _QUIET * (high - low)
    changes = np.flatnonzero(np.diff(quiet)) + 1
    least = _PAUSE_S / length_s * frames
    for run in np.split(np.arange(frames), changes):
        inside = run[0] > 0 and run[-1] < frames - 1
        if inside and len(run) < least:
            quiet[run] = False
    return quiet


def _smoothed(evidence: np.ndarray) -> np.ndarray:
    reach = np.arange(-round(3 * _SMOOTHING), round(3 * _SMOOTHING) + 1)
    kernel = np.exp(-np.square(reach / _SMOOTHING) / 2)
    width = len(kernel) // 2
    padded = np.pad(evidence.astype(np.float64), ((0, 0), (width, width)))
    return np.stack([np.convolve(row, kernel, "valid") for row in padded])


def _bounds(score: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Divide (U, N) frames into U stretches of the greatest total score.

    Args:
        score: of each frame for each stretch.
        expected: (U,) lengths in frames.

    Returns:
        (U + 1,) where the stretches begin, and N.
    """
    units, frames = score.shape
    total = np.concatenate([np.zeros((units, 1)), np.cumsum(score, axis=1)], axis=1)
    best = np.full(frames + 1, -np.inf)
    best[0] = 0.0
    lengths = []
    for unit in range(units):
        longest = min(frames, int(_LONGEST * expected[unit]) + 2)
        ending = np.full(frames + 1, -np.inf)
        length = np.zeros(frames + 1, dtype=np.int64)
        begun = best - total[unit]
        for each in range(1, longest + 1):
            off = np.log(each / expected[unit]) / _DEVIATION
            value = begun[:-each] - _WEIGHT * off * off / 2
            is_better = value > ending[each:]
            ending[each:][is_better] = value[is_better]
            length[each:][is_better] = each
        best = ending + total[unit]
        lengths.append(length)
    bounds = [frames]
    for length in reversed(lengths):
        bounds.append(bounds[-1] - int(length[bounds[-1]]))
    return np.array(bounds[::-1])
