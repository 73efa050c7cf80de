"""The beam search of `beam.py` at fixed shapes: on CUDA one graph is replayed a step.

`FixedSearch` serves where the decoder alone scores. All state lies on the device, in
buffers that are used again by the next batch that fits them, perhaps with idle rows; what
a step does depends on no number of the host. An utterance that is over stays in its rows:
nothing of it is chosen any more. `FixedScorer` serves where others score as well: the
decoder's step is a graph, the search around it is `beam_search`. Both give the results of
`beam_search` with a `DecoderScorer`, by test.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtla_espnet.attention.ops import choose
from mtla_espnet.cache.graph import GraphCache
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.decoder.graph import GraphDecoder
from mtla_espnet.search.beam import Ends
from mtla_espnet.search.graph.select import best_tokens
from mtla_espnet.search.history import Hypothesis, nbest
from mtla_espnet.search.options import SearchOptions

_NOTHING = float("-inf")
# Buffers are made for so many tokens at first (fewer if fewer are allowed), then doubled.
_FIRST_LENGTH = 64
# Prefixes are padded to a multiple of so many positions: the next batch may fit as well.
_POSITIONS_STEP = 32
# A batch takes buffers for up to so many times as many utterances, rather than make its own.
_MOST_IDLE = 4 / 3
# After so many steps the host looks whether everything has ended, one look behind.
_LOOK_EVERY = 4


def why_no_graph(decoder, device: torch.device) -> str:
    """Return why steps at fixed shapes do not serve a decoder; empty if they do."""
    if not isinstance(decoder, DecoderOnly):
        return f"{type(decoder).__name__} is not decoder-only"
    return choose.why_no_kernels(device, decoder.output_layer.weight.dtype)


def _fits(batch: int, positions: int, utterances: int, longest: int) -> bool:
    """Return whether buffers for `batch` x `positions` are to serve a batch of utterances."""
    return utterances <= batch <= _MOST_IDLE * utterances and longest <= positions


def _roomy(longest: int) -> int:
    """Return the prefix positions that new buffers are made for."""
    return -(-longest // _POSITIONS_STEP) * _POSITIONS_STEP


class FixedSearch:
    """Beam search by a decoder-only model alone.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        sos_eos: the token that begins and ends.
        options: of the search; `ctc_weight` is 0.
        blank: the token that is never emitted; None: every token may be.
    """

    def __init__(
        self,
        decoder: DecoderOnly,
        sos_eos: int,
        options: SearchOptions,
        blank: int | None = None,
    ):
        self._decoder, self._sos_eos, self._options = decoder, sos_eos, options
        self._blank = blank
        self._buffers: _Buffers | None = None

    @property
    def cache(self) -> GraphCache | None:
        """The decoder's cache, as the newest search left it: at its fullest."""
        return self._buffers and self._buffers.cache

    def __call__(self, encoded: Tensor, lengths: Tensor) -> list[list[Hypothesis] | None]:
        """Search the best token sequences of several utterances.

        Args:
            encoded: (B, T, d) encoder output.
            lengths: (B,) int64.

        Returns:
            As `beam_search`.
        """
        frames = lengths.tolist()
        limits = torch.tensor([self._options.length_limits(n) for n in frames])
        most = int(limits[:, 1].max())
        buffers = self._fitting(frames, most)
        buffers.start(encoded, lengths, limits)
        done, looks = 0, []
        while done < most:
            if done == buffers.length:
                buffers.grow(min(most, 2 * done))
                looks.clear()
            buffers.step()
            done += 1
            if done % _LOOK_EVERY == 0 and done < most:
                looks.append(buffers.look())
                if len(looks) > 1 and not _seen(looks.pop(0)):
                    break
        return buffers.nbest(done)[: len(frames)]

    def _fitting(self, frames: Sequence[int], most: int) -> "_Buffers":
        """Return buffers for a batch; those of the last one where they fit."""
        kept, longest = self._buffers, max(frames)
        if kept is None or not _fits(kept.batch, kept.positions, len(frames), longest):
            self._buffers = kept = None  # freed before the next are made
            self._buffers = _Buffers(
                self._decoder, self._sos_eos, self._options, len(frames), _roomy(longest),
                min(most, _FIRST_LENGTH), self._blank,
            )  # fmt: skip
        return self._buffers


def _seen(look: tuple[Tensor, "torch.cuda.Event | None"]) -> bool:
    value, event = look
    if event is not None:
        event.synchronize()
    return bool(value)


def settle(
    ends: Ends,
    chosen: Tensor,
    parent: Tensor,
    token: Tensor,
    limits: Tensor,
    index: Tensor,
    total: Tensor,
    tokens: Tensor,
    rows: Tensor,
    history: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Write down what a step chose, and which hypotheses go on.

    Args:
        ends: of the search; written in place, as is what follows `limits`.
        chosen: (B, W) float64 scores; minus infinity: no hypothesis.
        parent: (B, W) int64.
        token: (B, W) int64.
        limits: (B, 2) int64, the least and the most tokens.
        index: (1,) int64, the step, from 0; then that of the next one.
        total: (B, W) float64, becomes the scores of what goes on.
        tokens: (B, W) int64, becomes `token`.
        rows: (B * W,) int64, becomes each hypothesis' parent as a row of the batch.
        history: (L, B, W) of parents, tokens, and scores of what ended.
    """
    if choose.has_kernels(chosen.device):
        # here: Triton need not be installed where there is no GPU
        from mtla_espnet.search.graph.advance_kernels import settle as on_cuda

        on_cuda(ends, chosen, parent, token, limits, index, total, tokens, rows, history)
        return
    going, ended = ends.settle(chosen, token, limits, index)
    for kept, made in zip(history, (parent, token, ended), strict=True):
        kept.index_copy_(0, index, made[None])
    total.copy_(going)
    tokens.copy_(token)
    first = torch.arange(len(parent), device=parent.device)[:, None] * parent.size(1)
    rows.copy_((parent + first).flatten())
    index += 1


class _Replayed:
    """Runs a function of buffers alone; on CUDA it is captured at its second call.

    The first one compiles, tunes and fills caches, which a graph cannot hold. The
    function is handed in at each call and not kept: a method would tie its object, with
    gigabytes of buffers, into a cycle that only a garbage collection frees.
    """

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._warm = False
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[[], None]) -> None:
        if not self._cuda or not self._warm:
            function()
            self._warm = True
            return
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                function()
            self._graph = graph
        self._graph.replay()


class _Buffers:
    """The state of a search of B utterances, and one step of it.

    Args:
        decoder: the decoder-only model.
        sos_eos: the token that starts and ends a hypothesis.
        options: of the search.
        batch: B.
        positions: of the longest prefix.
        length: tokens that there is room for.
        blank: the token that is never emitted; None: every token may be.
    """

    def __init__(
        self,
        decoder: DecoderOnly,
        sos_eos: int,
        options: SearchOptions,
        batch: int,
        positions: int,
        length: int,
        blank: int | None = None,
    ):
        self._sos_eos, self._options, self._blank = sos_eos, options, blank
        self.batch, self.positions, self.length = batch, positions, length
        beams = options.beam_size
        slots = decoder.prefix_slots(positions)
        self._decoder = GraphDecoder(decoder, batch, beams, slots, length)
        weight = decoder.output_layer.weight
        device = weight.device
        self._encoded = weight.new_zeros(batch, positions, weight.size(1))
        self._lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self._device = device
        shape = (batch, beams)
        self._tokens = torch.zeros(shape, dtype=torch.int64, device=device)
        self._total = torch.zeros(shape, dtype=torch.float64, device=device)
        self._begin = torch.zeros(batch, dtype=torch.float64, device=device)
        self._limits = torch.zeros(batch, 2, dtype=torch.int64, device=device)
        self._index = torch.zeros(1, dtype=torch.int64, device=device)
        self._make_history()
        self._run_start, self._run_step = _Replayed(device), _Replayed(device)

    def _make_history(self) -> None:
        shape = (self.length, self.batch, self._options.beam_size)
        whole = {"dtype": torch.int64, "device": self._device}
        self._parent = torch.zeros(shape, **whole)
        self._token = torch.zeros(shape, **whole)
        self._ended = torch.zeros(shape, dtype=torch.float64, device=self._device)
        self._ends = Ends(self.batch, self.length, self._sos_eos, self._options, self._device)

    @property
    def cache(self) -> GraphCache:
        """The decoder's cache."""
        return self._decoder.cache

    def start(self, encoded: Tensor, lengths: Tensor, limits: Tensor) -> None:
        """Begin with new utterances, B of them or fewer: (B, T, d), (B,) and (B, 2)."""
        count = len(lengths)
        self._encoded[:count, : encoded.size(1)] = encoded
        self._lengths.fill_(1)  # of idle rows, which hold something old
        self._lengths[:count] = lengths
        self._limits[:count] = limits.to(self._device)
        self._begin.fill_(_NOTHING)
        self._begin[:count] = 0.0
        self.cache.utterances = count
        self._run_start(self._start)

    def _start(self) -> None:
        self._decoder.start(self._encoded, self._lengths)
        self._tokens.fill_(self._sos_eos)
        self._total.fill_(_NOTHING)
        self._total[:, 0] = self._begin  # all begin alike: one is enough
        self._index.zero_()
        self._ends.clear()

    def grow(self, length: int) -> None:
        """Make room for more tokens."""
        old = self.length, self._parent, self._token, self._ended, self._ends
        self.length = length
        self._decoder.grow(length)
        self._make_history()
        for new, kept in zip((self._parent, self._token, self._ended), old[1:4], strict=True):
            new[: old[0]] = kept
        self._ends.take(old[4])
        self._run_start, self._run_step = _Replayed(self._device), _Replayed(self._device)

    def step(self) -> None:
        """Add a token to every hypothesis."""
        self._run_step(self._step)

    def _step(self) -> None:
        options = self._options
        logits = self._decoder.step(self._tokens.flatten())
        chosen, parent, token = best_tokens(
            logits, self._total, options.temperature, options.penalty, self._blank
        )
        settle(
            self._ends, chosen, parent, token, self._limits, self._index, self._total,
            self._tokens, self.cache.parents, (self._parent, self._token, self._ended),
        )  # fmt: skip

    def look(self) -> tuple[Tensor, "torch.cuda.Event | None"]:
        """Ask whether any hypothesis goes on, without waiting for the answer."""
        going = (self._total > _NOTHING).any()
        if self._device.type != "cuda":
            return going, None
        answer = torch.empty((), dtype=torch.bool, pin_memory=True)
        answer.copy_(going, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return answer, event

    def nbest(self, steps: int) -> list[list[Hypothesis] | None]:
        """Return the best hypotheses of the steps so far; None: a score is NaN."""
        options = self._options
        self._ended[steps - 1].masked_fill_(self._total.isnan(), float("nan"))  # and never ends
        parent, token, ended = (x[:steps] for x in (self._parent, self._token, self._ended))
        count = torch.arange(1, steps + 1, device=self._device)[:, None, None]
        return nbest(
            parent, token, ended, {"decoder": ended - options.penalty * count},
            self._sos_eos, options.nbest, options.normalize_length,
        )  # fmt: skip


class StepBuffers:
    """A decoder's step as a graph, for batches that fit.

    Args:
        decoder: as of `FixedSearch`.
        batch: B.
        positions: of the longest prefix.
        beams: hypotheses an utterance, at most.
    """

    def __init__(self, decoder: DecoderOnly, batch: int, positions: int, beams: int):
        self._batch, self._positions = batch, _roomy(positions)
        slots = decoder.prefix_slots(self._positions)
        self._decoder = GraphDecoder(decoder, batch, beams, slots, _FIRST_LENGTH)
        device = decoder.output_layer.weight.device
        self.tokens = torch.zeros(batch, beams, dtype=torch.int64, device=device)
        self._run = _Replayed(device)

    @property
    def cache(self) -> GraphCache:
        """The decoder's cache."""
        return self._decoder.cache

    def fits(self, utterances: int, positions: int, beams: int) -> bool:
        """Return whether they are to serve a batch of this size."""
        return self.tokens.size(1) == beams and _fits(
            self._batch, self._positions, utterances, positions
        )

    def start(self, encoded: Tensor, lengths: Tensor) -> None:
        """Begin with new utterances, B of them or fewer: (B, T, d) and (B,)."""
        idle = self._batch - len(lengths)
        encoded = torch.nn.functional.pad(encoded, (0, 0, 0, 0, 0, idle))
        self._decoder.start(encoded, torch.nn.functional.pad(lengths, (0, idle), value=1))
        # sizes are noted at each step, which is not to wait for the device
        held = self._decoder.prefix_lengths(lengths).tolist()
        self.cache.utterances, self.cache.known = len(lengths), (held, 0)

    def grow(self, max_length: int) -> None:
        """Make room for more tokens."""
        self._decoder.grow(max_length)
        self._run = _Replayed(self.tokens.device)

    def step(self) -> Tensor:
        """Add `tokens`, which go on from `cache.parents`; return logits (B, beams, V)."""
        self._run(self._step)
        lengths, count = self.cache.known
        self.cache.known = lengths, count + 1
        return self._logits.unflatten(0, self.tokens.shape)

    def _step(self) -> None:
        self._logits = self._decoder.step(self.tokens.flatten())


class FixedScorer:
    """The decoder as a scorer of `beam_search`, with its step as a graph.

    Args:
        decoder: as of `FixedSearch`.
        encoded: (B, T, d) encoder output.
        lengths: (B,) int64.
        beams: hypotheses an utterance, at most.
        temperature: divides the logits.
        buffers: that fit; None: its own.
    """

    def __init__(
        self,
        decoder: DecoderOnly,
        encoded: Tensor,
        lengths: Tensor,
        beams: int,
        temperature: float = 1.0,
        buffers: StepBuffers | None = None,
    ):
        batch = len(lengths)
        self._buffers = buffers or StepBuffers(decoder, batch, encoded.size(1), beams)
        self._buffers.start(encoded, lengths)
        self._temperature = temperature
        self._place = torch.arange(batch, device=encoded.device)  # of what is left, in buffers
        self._width = 1
        self._done = 0

    @property
    def cache(self) -> GraphCache:
        """The decoder's cache."""
        return self._buffers.cache

    def score(self, tokens: Tensor) -> Tensor:
        """Take the newest token of each row, (N,); return (N, V) log probabilities."""
        if self._done == self.cache.max_length:
            self._buffers.grow(2 * self._done)
        self._done += 1
        self._width = len(tokens) // len(self._place)
        self._buffers.tokens[self._place, : self._width] = tokens.view(-1, self._width)
        logits = self._buffers.step()[self._place, : self._width]
        return (logits.flatten(0, 1).float() / self._temperature).log_softmax(dim=-1)

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n], (N',) int64."""
        rows = self.cache.parents.view_as(self._buffers.tokens)
        beams = rows.size(1)
        parent = parents.view(len(self._place), -1) % self._width + self._place[:, None] * beams
        rows[self._place, : parent.size(1)] = parent

    def select(self, utterances: Tensor) -> None:
        """Keep the rows of these utterances, (B',) int64."""
        self._place = self._place[utterances]
