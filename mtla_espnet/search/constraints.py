"""Which tokens may not come next, by a forced beginning or a ban on repetitions."""

import torch
from torch import Tensor

from mtla_espnet.search.options import SearchOptions


class Constraints:
    """The tokens of all hypotheses so far, and what may not follow them.

    A forced beginning comes first, whatever it repeats. Afterwards no n tokens in a row may come
    twice in a hypothesis; the start and the end do not count.

    Args:
        options: of the search: `prefix` and `no_repeat_ngram_size`.
        batch: B, hypotheses at the beginning.
        device: of the scores.
    """

    def __init__(self, options: SearchOptions, batch: int, device: torch.device):
        self._prefix, self._size = options.prefix, options.no_repeat_ngram_size
        self._sequences = torch.zeros(batch, 0, dtype=torch.int64, device=device)

    def forbidden(self, vocabulary: int) -> Tensor | None:
        """Return (N, V) bool, true where a token may not come next; None: any may."""
        rows, length = self._sequences.shape
        shape = rows, vocabulary
        if length < len(self._prefix):
            forbidden = torch.ones(shape, dtype=torch.bool, device=self._sequences.device)
            forbidden[:, self._prefix[length]] = False
            return forbidden
        if not self._size or length < self._size:
            return None
        windows = self._sequences.unfold(1, self._size, 1)  # (N, L - n + 1, n)
        last = self._sequences[:, length - self._size + 1 :]
        begins = (windows[..., :-1] == last[:, None]).all(dim=-1)
        row, at = begins.nonzero(as_tuple=True)
        forbidden = torch.zeros(shape, dtype=torch.bool, device=self._sequences.device)
        forbidden[row, windows[row, at, -1]] = True
        return forbidden

    def extend(self, parents: Tensor, tokens: Tensor) -> None:
        """Let row n be row parents[n] and the token tokens[n], (N',) int64 both."""
        self._sequences = torch.cat((self._sequences[parents], tokens[:, None]), dim=1)

    def select(self, utterances: Tensor, batch: int) -> None:
        """Keep the rows of these utterances, (B',) int64, of B = `batch`."""
        sequences = self._sequences.unflatten(0, (batch, -1))[utterances]
        self._sequences = sequences.flatten(0, 1)


def constraints(options: SearchOptions, batch: int, device: torch.device) -> Constraints | None:
    """Return the constraints of a search; None: there are none."""
    if not options.prefix and not options.no_repeat_ngram_size:
        return None
    return Constraints(options, batch, device)
