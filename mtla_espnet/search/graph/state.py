"""What a search holds on the device, in buffers of fixed shape, and one step of it."""

import torch
from torch import Tensor

from mtla_espnet.cache.graph import Memory, new_memory
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.search.ends import EndDetection
from mtla_espnet.search.graph import buffers
from mtla_espnet.search.graph.advance import advance
from mtla_espnet.search.graph.select import best_tokens
from mtla_espnet.search.history import Hypothesis, nbest
from mtla_espnet.search.options import SearchOptions

_NOTHING = float("-inf")


class SearchBuffers(buffers.Buffers):
    """The state of a search by the decoder alone, and one step of it.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        sos_eos: the token that begins and ends.
        options: of the search.
        blank: the token that is never emitted; None: every token may be.
        batch: B, utterances.
        positions: of the longest prefix.
        length: tokens that there is room for.
        memory: gives the cache's buffers of prefix and suffix.

    Attributes:
        length: tokens that there is room for.
    """

    def __init__(
        self,
        decoder: DecoderOnly,
        sos_eos: int,
        options: SearchOptions,
        blank: int | None,
        batch: int,
        positions: int,
        length: int,
        memory: Memory = new_memory,
    ):
        super().__init__(decoder, batch, positions, options.beam_size, length, memory)
        self._sos_eos, self._options, self._blank = sos_eos, options, blank
        self.length = length
        weight = decoder.output_layer.weight
        self._encoded = weight.new_zeros(batch, self.positions, weight.size(1))
        whole = {"dtype": torch.int64, "device": self.device}
        scores = {"dtype": torch.float64, "device": self.device}
        self._lengths = torch.zeros(batch, **whole)
        self._limits = torch.zeros(batch, 2, **whole)
        self._index = torch.zeros(1, **whole)
        self._total = torch.zeros(self.tokens.shape, **scores)
        self._run_start = buffers.Replay(self._pool)
        self._make_history()

    def _make_history(self) -> None:
        """Make room for what each step chooses: (L, B, W) each."""
        shape = (self.length, *self.tokens.shape)
        self._history = {
            "parent": self.tokens.new_zeros(shape),
            "token": self.tokens.new_zeros(shape),
            "ended": self._total.new_zeros(shape),  # scores of what ended
        }
        batch = len(self.tokens)
        self._ends = EndDetection(batch, self.length, self._sos_eos, self._options, self.device)

    def start(self, encoded: Tensor, lengths: Tensor, limits: Tensor) -> None:
        """Begin with new utterances: (B, T, d), (B,) and (B, 2)."""
        self._encoded[:, : encoded.size(1)] = encoded
        self._lengths.copy_(lengths)
        self._limits.copy_(limits)
        self._run_start(self._start)

    def _start(self) -> None:
        self._decoder.start(self._encoded, self._lengths)
        self.tokens.fill_(self._sos_eos)
        self._total.fill_(_NOTHING)
        self._total[:, 0].fill_(0.0)  # all begin alike: one is enough
        self._index.zero_()
        self._ends.clear()

    def grow(self, length: int, memory: Memory = new_memory) -> None:
        """Make room for more tokens."""
        history, ends = self._history, self._ends
        self.length = length
        self._run_start = buffers.Replay(self._pool)
        super().grow(length, memory)
        self._make_history()
        for name, kept in history.items():
            self._history[name][: len(kept)] = kept
        self._ends.take(ends)

    def step(self) -> None:
        """Add a token to every hypothesis."""
        self._run(self._step)

    def _step(self) -> None:
        options = self._options
        logits = self._decoder.step(self.tokens.flatten())
        chosen, parent, token = best_tokens(
            logits, self._total, options.temperature, options.penalty, self._blank
        )
        self._advance(chosen, parent, token)

    def _advance(self, chosen: Tensor, parent: Tensor, token: Tensor) -> None:
        """Write down what was chosen, (B, W) each, and which hypotheses go on."""
        noted = tuple(self._history[name] for name in ("parent", "token", "ended"))
        advance(
            self._ends, chosen, parent, token, self._limits, self._index, self._total,
            self.tokens, self.cache.parents, noted,
        )  # fmt: skip

    def look(self) -> tuple[Tensor, "torch.cuda.Event | None"]:
        """Ask whether any hypothesis goes on, without waiting for the answer."""
        going = (self._total > _NOTHING).any()
        if self.device.type != "cuda":
            return going, None
        answer = torch.empty((), dtype=torch.bool, pin_memory=True)
        answer.copy_(going, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return answer, event

    def nbest(self, steps: int) -> list[list[Hypothesis] | None]:
        """Return the best hypotheses of the steps so far; None: a score is NaN."""
        ended = self._history["ended"]
        ended[steps - 1].masked_fill_(self._total.isnan(), float("nan"))  # and never ends
        parent, token, ended = (self._history[n][:steps] for n in ("parent", "token", "ended"))
        return nbest(
            parent, token, ended, self._shares(steps), self._sos_eos, self._options.nbest,
            self._options.length_exponent,
        )  # fmt: skip

    def _shares(self, steps: int) -> dict[str, Tensor]:
        """Return scorer -> (L, B, W) float64, its part of the scores of the first steps."""
        count = torch.arange(1, steps + 1, device=self.device)[:, None, None]
        ended = self._history["ended"][:steps]
        return {"decoder": ended - self._options.penalty * count}
