"""The search of `search.py` joint with CTC, in the same graph.

A step scores all tokens by the decoder, and by CTC those that it likes best, as `beam_search` does
with a `CTCPrefixScorer`: the same functions, by test.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mtla_espnet.cache.graph import Memory, new_memory
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.search.beam import best_extensions, pre_beam
from mtla_espnet.search.graph.ctc import GraphCTC
from mtla_espnet.search.graph.state import SearchBuffers
from mtla_espnet.search.options import SearchOptions


class JointBuffers(SearchBuffers):
    """The state of a joint search, and one step of it.

    Args:
        layer: CTC's, float32 encoder output (B, T, d) -> log posteriors (B, T, V).
        skip: tokens that begin every hypothesis and that CTC was not trained on.
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        sos_eos: the token that begins and ends.
        options: of the search; `ctc_weight` is above 0 and below 1.
        blank: the token that is never emitted.
        batch: B, utterances.
        positions: of the longest prefix.
        length: tokens that there is room for.
        memory: gives the large buffers.
    """

    def __init__(
        self,
        layer: Callable[[Tensor], Tensor],
        skip: int,
        decoder: DecoderOnly,
        sos_eos: int,
        options: SearchOptions,
        blank: int,
        batch: int,
        positions: int,
        length: int,
        memory: Memory = new_memory,
    ):
        self._weights = {"decoder": 1.0 - options.ctc_weight, "ctc": options.ctc_weight}
        self._parts: dict[str, Tensor] = {}
        super().__init__(decoder, sos_eos, options, blank, batch, positions, length, memory)
        self._ctc = GraphCTC(
            layer, decoder.vocab_size, batch, self.positions, options.beam_size, blank, sos_eos,
            skip, self.device, memory,
        )  # fmt: skip
        self._parts = {name: torch.zeros_like(self._total) for name in self._weights}

    def _make_history(self) -> None:
        super()._make_history()
        self._history |= {name: torch.zeros_like(self._history["ended"]) for name in self._weights}

    def start(self, encoded: Tensor, lengths: Tensor, limits: Tensor) -> None:
        """Begin with new utterances: float32 (B, T, d), (B,) and (B, 2)."""
        self._ctc.start(encoded, lengths)
        super().start(encoded, lengths, limits)

    def _start(self) -> None:
        super()._start()
        self._ctc.begin()
        for part in self._parts.values():
            part.zero_()

    def _step(self) -> None:
        options, size = self._options, int(self._options.pre_beam_ratio * self.tokens.size(1))
        logits = self._decoder.step(self.tokens.flatten())
        full = {"decoder": (logits.float() / options.temperature).log_softmax(dim=-1)}
        shape, beams = self.tokens.shape, options.beam_size
        candidates, duplicate = pre_beam(
            full, self._weights, shape, beams, size, self._sos_eos, None
        )
        flat = candidates.flatten(0, 1)
        each = {"decoder": full["decoder"].gather(1, flat).view(candidates.shape)}
        each["ctc"] = self._ctc.score(candidates, self._index)
        chosen, parent, token, taken, parts = best_extensions(
            each, candidates, duplicate, self._weights, self._total, self._parts, options
        )
        self._ctc.extend(parent, token, taken["ctc"], self._index)
        for name, part in parts.items():
            self._parts[name].copy_(part)
            self._history[name].index_copy_(0, self._index, part[None])
        self._advance(chosen, parent, token)

    def _shares(self, steps: int) -> dict[str, Tensor]:
        return {name: self._history[name][:steps] for name in self._weights}
