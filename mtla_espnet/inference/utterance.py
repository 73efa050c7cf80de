"""What a trained model is given of an utterance, and what it gives."""

from collections.abc import Mapping

import numpy as np

from mtla_espnet.files import UserError
from mtla_espnet.search.history import Hypothesis

# Text (None without a tokenizer), tokens, their ids without start and end, the hypothesis.
Result = tuple[str | None, list[str], list[int], Hypothesis]
# Of one utterance: ESPnet's name of an input -> array of one or more dimensions, time first.
Utterance = Mapping[str, np.ndarray]
# Of one utterance: the n best, best first; or why it cannot be recognised.
Outcome = list[Result] | UserError


def length_of(utterance: Utterance) -> int:
    """Return the length of an utterance in the unit of its main input, the first."""
    return len(next(iter(utterance.values())))
