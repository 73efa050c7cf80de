"""What a training epoch has gone through: batches for a bar, inputs for the throughput."""

import logging
from collections.abc import Iterable, Iterator

import torch

# Who wants to show progress attaches a handler and sets the level to DEBUG. Of each record,
# `batches` and `total` (None: unknown) tell how far the epoch is.
LOGGER = logging.getLogger("mtla_espnet.progress")
# Name of the reports: samples, frames or tokens of a batch's inputs, without padding.
INPUTS = "inputs"
_INPUTS = ("speech_lengths", "src_text_lengths", "text_lengths")

Batch = tuple[list[str], dict[str, torch.Tensor]]


class Counted:
    """The batches of an epoch, which reports their inputs and how far it is.

    Args:
        batches: of (ids, name -> (B, ...), name_lengths -> (B,)).
        reporter: ESPnet's, of the epoch.
    """

    def __init__(self, batches: Iterable[Batch], reporter):
        self._batches, self._reporter = batches, reporter

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        total = self._total()
        for keys, batch in self._batches:
            lengths = next((batch[name] for name in _INPUTS if name in batch), None)
            if lengths is not None:
                self._reporter.register({INPUTS: int(lengths.sum())})
            yield keys, batch
            # Batches of an earlier run of the epoch count too.
            LOGGER.debug("batch", extra={"batches": self._reporter.count, "total": total})

    def _total(self) -> int | None:
        try:
            return len(self._batches)
        except TypeError:  # batches of a stream
            return None
