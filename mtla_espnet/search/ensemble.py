"""Several models as one scorer: the average of their probabilities, as in fairseq."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mtla_espnet.search.beam import Scorer


def average(log_probabilities: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the average of probabilities, given as logarithms of one shape.

    Example:
        >>> average([torch.tensor([0.2]).log(), torch.tensor([0.6]).log()]).exp()
        tensor([0.4000])
    """
    if len(log_probabilities) == 1:
        return log_probabilities[0]
    stacked = torch.stack(list(log_probabilities))
    return stacked.logsumexp(dim=0) - math.log(len(stacked))


class EnsembleScorer:
    """The average of scorers of all tokens.

    Args:
        scorers: of the same tokens, each with one row an utterance so far.
    """

    def __init__(self, scorers: Sequence[Scorer]):
        self._scorers = scorers
        caches = [scorer.cache for scorer in scorers if hasattr(scorer, "cache")]
        self.cache = EnsembleCache(caches) if caches else None

    def score(self, tokens: Tensor) -> Tensor:
        """Take the newest token of each row, (N,); return (N, V) log probabilities."""
        return average([scorer.score(tokens) for scorer in self._scorers])

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n], (N',) int64."""
        for scorer in self._scorers:
            scorer.reorder(parents)

    def select(self, utterances: Tensor) -> None:
        """Keep the rows of these utterances, (B',) int64."""
        for scorer in self._scorers:
            scorer.select(utterances)


class EnsembleCache:
    """The caches of several models, as far as their sizes are concerned.

    Args:
        caches: of them.
    """

    def __init__(self, caches: Sequence):
        self._caches = caches

    @property
    def nbytes(self) -> int:
        """Bytes of the positions held."""
        return sum(cache.nbytes for cache in self._caches)

    @property
    def prefix_nbytes(self) -> int:
        """Bytes of the prefixes."""
        return sum(cache.prefix_nbytes for cache in self._caches)

    @property
    def nbytes_allocated(self) -> int:
        """Bytes of the buffers."""
        return sum(cache.nbytes_allocated for cache in self._caches)
