"""`decoder: decoder_only` of ESPnet2's ASR, ST, SLU and MT tasks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from espnet2.asr.decoder.abs_decoder import AbsDecoder
from espnet2.legacy.nets.scorer_interface import BatchScorerInterface
from torch import Tensor, nn

from mtla_espnet.attention.base import require_integer
from mtla_espnet.attention.kinds import (
    DEFAULT_KIND,
    attention_class,
    resolve_attention_conf,
    shown_name,
)
from mtla_espnet.cache.graph import GraphCache
from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.decoder.block import Block
from mtla_espnet.decoder.prefix import Join, Projector
from mtla_espnet.decoder.step import DecoderStep
from mtla_espnet.position import Lengths, Positions, positions

PREFIX_MODES = ("static", "recompute")


@dataclass
class SearchState:
    """Hypotheses' states in ESPnet's beam search: the shared cache and rows of it.

    Selecting is free: it only notes the rows; the cache is reordered when the next
    token is scored.

    Attributes:
        cache: of all hypotheses.
        rows: (N,) int64 on the CPU, rows of the cache as it was after `step` tokens.
        step: tokens that the cache held when the rows were counted.
    """

    cache: DecodingCache
    rows: Tensor
    step: int


class DecoderOnly(AbsDecoder, BatchScorerInterface):
    """Causal self-attention over `[encoder output ; text]`, no cross-attention.

    Pre-norm blocks and a final LayerNorm; the model size is the encoder's output
    size. Text embeddings are scaled by sqrt(d); positions are rotary alone.

    Args:
        vocab_size: tokens.
        encoder_output_size: d.
        attention: a name of `mtla_espnet.attention.kinds`, such as `mtla`.
        attention_conf: options of the kind; those of other kinds are ignored.
        attention_heads: H.
        linear_units: of the feed-forward networks.
        num_blocks: layers.
        dropout_rate: after embedding, attention and feed-forward network.
        self_attention_dropout_rate: of the attention weights.
        prefix: `static`: every layer's prefix keys are made from the projected encoder
            output itself and only text positions ask; `recompute`: prefix positions
            pass through the layers too, causally, as in a language model.
        projector_units: bottleneck between encoder and decoder; None: d / 2, 0: none.
        prefix_stride: k, frames of the encoder that are stacked to one prefix position; a
            prefix has ceil(T / k) positions.
        tie_embeddings: one matrix for input embedding and output layer.

    Raises:
        ValueError: an unknown kind, mode or option, or sizes that do not divide.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        attention: str = DEFAULT_KIND,
        attention_conf: Mapping[str, object] | None = None,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        dropout_rate: float = 0.1,
        self_attention_dropout_rate: float = 0.0,
        prefix: str = "static",
        projector_units: int | None = None,
        prefix_stride: int = 1,
        tie_embeddings: bool = False,
    ):
        super().__init__()
        if prefix not in PREFIX_MODES:
            raise ValueError(f"prefix: {prefix!r} is unknown; choose {' or '.join(PREFIX_MODES)}")
        size = encoder_output_size
        conf = resolve_attention_conf(attention, attention_conf, size, attention_heads)
        self.vocab_size = vocab_size
        self.attention = shown_name(attention, conf)
        self.prefix = prefix
        units = size // 2 if projector_units is None else projector_units
        self.projector = Projector(size, units, require_integer("prefix_stride", prefix_stride))
        # ESPnet's MT model shares weights by these two names
        self.embed = nn.Sequential(nn.Embedding(vocab_size, size), nn.Dropout(dropout_rate))
        self.output_layer = nn.Linear(size, vocab_size)
        kind = attention_class(attention)
        self.blocks = nn.ModuleList(
            Block(
                kind(size, attention_heads, self_attention_dropout_rate, **conf),
                linear_units,
                dropout_rate,
            )
            for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(size)
        if tie_embeddings:
            # as large as an output layer wants: rows are scaled by sqrt(d) on the way in
            nn.init.normal_(self.embed[0].weight, std=size**-0.5)
            self.output_layer.weight = self.embed[0].weight

    # -- training --------------------------------------------------------------
    def forward(
        self, hs_pad: Tensor, hlens: Tensor, ys_in_pad: Tensor, ys_in_lens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Score every next token.

        Args:
            hs_pad: (B, P, d) encoder output.
            hlens: (B,) its lengths; with `Lengths` nothing waits for the GPU.
            ys_in_pad: (B, L) int64 tokens, beginning with <sos/eos>; any padding.
            ys_in_lens: (B,) their lengths.

        Returns:
            Logits (B, L, vocab_size) and `ys_in_lens`.
        """
        prefix, prefix_lengths = self._prefix(hs_pad, hlens)
        lengths = ys_in_lens.to(hs_pad.device)
        sizes = prefix.size(1), ys_in_pad.size(1)
        joined = sum(sizes) if isinstance(hlens, Lengths) else None
        join = Join(prefix_lengths, sizes[0], lengths, sizes[1], joined)
        x = self._embed(ys_in_pad.masked_fill(join.text_position.index < 0, 0))
        if self.prefix == "static":
            for block in self.blocks:
                x = block.forward_text(x, prefix, join)
        else:
            x = join(prefix.to(x.dtype), x)
            for block in self.blocks:
                x = block(x, join.position)
            x = join.text(x)
        return self.output_layer(self.norm(x)), ys_in_lens

    def _prefix(self, hs_pad: Tensor, hlens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prefixes (B, P, d) and their lengths (B,)."""
        hlens = hlens.to(hs_pad.device)
        # garbage in the padding must not reach a gradient either
        padded = positions(hlens, hs_pad.size(1)) < 0
        prefix = self.projector(hs_pad.masked_fill(padded[..., None], 0.0))
        return prefix, self.prefix_lengths(hlens)

    def _embed(self, tokens: Tensor) -> Tensor:
        embedding, dropout = self.embed
        return dropout(embedding(tokens) * math.sqrt(embedding.embedding_dim))

    # -- decoding --------------------------------------------------------------
    def prefix_lengths(self, hlens: Tensor) -> Tensor:
        """Return the prefix positions (B,) of encoder outputs of `hlens` (B,) frames."""
        return self.projector.positions(hlens)

    def prefix_slots(self, frames: int) -> int:
        """Return the cache slots that a prefix of so many frames finishes."""
        return self.projector.positions(frames) // self.down_rate

    def write_prefix(self, cache: DecodingCache | GraphCache, hs_pad: Tensor, hlens: Tensor):
        """Write what each layer of a cache keeps of the prefixes.

        Args:
            cache: for prefixes of these lengths.
            hs_pad: (B, P, d) encoder output.
            hlens: (B,) its lengths.
        """
        prefix, lengths = self._prefix(hs_pad, hlens)
        position = Positions(positions(lengths, prefix.size(1)))
        static = self.prefix == "static"
        for layer, block in enumerate(self.blocks):
            block.write_prefix(cache, layer, prefix, position, norm=not static)
            if not static:
                prefix = block(prefix, position)

    def init_cache(self, hs_pad: Tensor, hlens: Tensor) -> DecodingCache:
        """Write the prefix of each utterance once, as `DecoderStep.init_cache` does."""
        return DecoderStep(self, prepared=False).init_cache(hs_pad, hlens)

    def step(self, tokens: Tensor, cache: DecodingCache) -> Tensor:
        """Add one token to every hypothesis, by the present weights; as `DecoderStep.step`."""
        return DecoderStep(self, prepared=False).step(tokens, cache)

    @property
    def keeps_latents(self) -> bool:
        """Whether cache slots hold less than the keys and values that are read from them."""
        return self.blocks[0].attention.layers.up is not None

    @property
    def down_rate(self) -> int:
        """Positions a cache slot holds: s of kinds that merge positions, else 1."""
        return self.blocks[0].attention.slot.down_rate

    def cache_bytes_per_position(self, dtype: torch.dtype = torch.float32) -> float:
        """Bytes that one position costs over all layers."""
        slot = self.blocks[0].attention.slot
        return len(self.blocks) * slot.width * dtype.itemsize / slot.down_rate

    # -- ESPnet's scorer interface -----------------------------------------------
    def init_state(self, x: Tensor) -> None:
        """No state: `score` looks at the whole hypothesis."""
        return None

    def score(self, ys: Tensor, state: None, x: Tensor) -> tuple[Tensor, None]:
        """Score one hypothesis in full, without a cache.

        Args:
            ys: (L,) int64, beginning with <sos/eos>.
            state: unused.
            x: (P, d) encoder output.

        Returns:
            Log probabilities (vocab_size,) of the next token, and None.
        """
        length = ys.new_tensor([len(ys)])
        logits, _ = self(x[None], ys.new_tensor([len(x)]), ys[None], length)
        return logits[0, -1].log_softmax(dim=-1), None

    def batch_init_state(self, x: Tensor, xs_lengths: Tensor | None = None) -> SearchState:
        """Build the prefix cache of a search.

        Args:
            x: (B, P, d), or (P, d) of one utterance, not repeated over beams.
            xs_lengths: (B,) lengths; None: all rows are full.

        Returns:
            The state that every first hypothesis shares.
        """
        x = x if x.dim() == 3 else x[None]
        if xs_lengths is None:
            xs_lengths = torch.full((x.size(0),), x.size(1), dtype=torch.int64)
        return SearchState(self.init_cache(x, xs_lengths), torch.zeros(1, dtype=torch.int64), 0)

    def batch_score(
        self,
        ys: Tensor,
        states: SearchState | list[SearchState],
        xs: Tensor,
        xs_mask: Tensor | None = None,
    ) -> tuple[Tensor, SearchState]:
        """Score the next token of every hypothesis.

        Args:
            ys: (N, L) int64, beginning with <sos/eos>; row n belongs to utterance
                n * B // N.
            states: one state of the batch, or one a row, as ESPnet's search selects.
            xs: (N, P, d), unused: the prefix is in the cache.
            xs_mask: unused: the cache knows the lengths.

        Returns:
            Log probabilities (N, vocab_size) and the state of the batch.

        Raises:
            RuntimeError: a state from before the cache's last token.
        """
        if isinstance(states, list):
            first = states[0]
            states = SearchState(
                first.cache, torch.cat([state.rows for state in states]), first.step
            )
        cache, rows = states.cache, ys.size(0)
        if states.step != cache.step:
            raise RuntimeError(
                f"a decoder state after {states.step} tokens is used again, "
                f"but its cache has gone on to {cache.step}"
            )
        if cache.step == 0:
            cache.expand(rows)
        elif not _unmoved(states.rows, cache.rows):
            cache.reorder(states.rows)
        scores = self.step(ys[:, -1], cache).log_softmax(dim=-1)
        return scores, SearchState(cache, torch.arange(rows), cache.step)

    def select_state(
        self, state: SearchState | list[SearchState] | None, i: int, new_id: int | None = None
    ) -> SearchState | None:
        """Return the state of hypothesis `i` of a batch state, or of a list of states."""
        if state is None or isinstance(state, list):
            return state and state[i]
        return SearchState(state.cache, state.rows[i : i + 1], state.step)

    def batch_select_state(self, state: SearchState, best_ids: Tensor) -> SearchState:
        """Return the state of the chosen hypotheses of every utterance at once.

        Args:
            state: of the batch that was scored.
            best_ids: (B, K) int64: hypothesis of the utterance * vocab_size + token.
        """
        batch, _ = best_ids.shape
        per_utterance = len(state.rows) // batch
        hypothesis = torch.div(best_ids.cpu(), self.vocab_size, rounding_mode="floor")
        parents = hypothesis + torch.arange(batch)[:, None] * per_utterance
        return SearchState(state.cache, state.rows[parents.flatten()], state.step)


def _unmoved(rows: Tensor, count: int) -> bool:
    return len(rows) == count and torch.equal(rows, torch.arange(count))
