"""Which search runs for a model, and what it keeps from batch to batch."""

import dataclasses
import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from mtla_espnet.attention.ops import choose
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.decoder.graph import why_no_graph
from mtla_espnet.decoder.step import DecoderStep
from mtla_espnet.inference.meter import Meter
from mtla_espnet.search.beam import DecoderScorer, Hypothesis, beam_search
from mtla_espnet.search.ctc import CTCPrefixScorer
from mtla_espnet.search.ensemble import EnsembleScorer, average
from mtla_espnet.search.espnet_scorer import ESPnetPartialScorer, ESPnetScorer
from mtla_espnet.search.graph.scorer import GraphScorer, StepBuffers
from mtla_espnet.search.graph.search import GraphSearch
from mtla_espnet.search.options import SearchOptions
from mtla_espnet.search.sampling import sample

# Where a search finds nothing, it is repeated with a minlenratio so much smaller, as in ESPnet.
_MINLENRATIO_STEP = 0.1


class ModelSearch:
    """The search of a model's hypotheses.

    On a GPU that the kernels are for all of it runs in CUDA graphs, with CTC or without. With
    language models, and elsewhere, the plain search runs.

    Args:
        model: ESPnet's, with `decoder`, `eos` and `token_list`.
        ctc: its CTC layer over the tokens that are written; None: it has none.
        options: of the search.
        blank: the token that is never emitted.
        prefix_cache: what the decoder keeps of an utterance: `latent`, `materialised` or `auto`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        ctc: torch.nn.Module | None,
        options: SearchOptions,
        blank: int,
        prefix_cache: str,
    ):
        self._model, self._ctc, self._options = model, ctc, options
        self._blank, self._prefix_cache = blank, prefix_cache
        parameter = next(model.decoder.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self._weights = {"decoder": 1.0 - options.ctc_weight}
        if options.ctc_weight:
            self._weights["ctc"] = options.ctc_weight
        self._graph_search: GraphSearch | None = None  # keeps its buffers from batch to batch
        self._buffers: StepBuffers | None = None  # keeps them too
        self._prepared: DecoderStep | None = None
        self._lm = self._ngram = None
        self._ngram_is_partial = False
        self._no_graph = self._why_no_graph()
        logging.debug(f"The decoder's steps run {self._how_steps_run()}")

    def change_options(self, options: SearchOptions) -> None:
        """Search by other options from now on, with the same weights of the scores.

        Raises:
            UserError: an option has a value that it cannot have.
        """
        options.check()
        if options != self._options:
            self._options, self._graph_search = options, None

    def add_lm(self, lm: torch.nn.Module, weight: float) -> None:
        """Score by a language model too, which is converted to the decoder's dtype."""
        self._lm = lm.to(self._dtype)
        self._weights["lm"] = weight

    def add_ngram(self, scorer, weight: float, partial: bool) -> None:
        """Score by an n-gram of ESPnet too.

        Args:
            scorer: of ESPnet.
            weight: of its scores.
            partial: it scores candidates alone, not all tokens.
        """
        self._ngram, self._ngram_is_partial = scorer, partial
        self._weights["ngram"] = weight

    def search(
        self, encoded: Tensor, lengths: Tensor, meter: Meter, members: Sequence["Member"] = ()
    ) -> list[list[Hypothesis] | None]:
        """Search, and again with a smaller minlenratio what found nothing, as ESPnet does.

        Args:
            encoded: (B, T, d) encoder output.
            lengths: (B,) int64.
            meter: adds up what it costs.
            members: the other models of an ensemble: the search of each, and what its encoder
                made of the same utterances.

        Returns:
            Of each utterance the n best hypotheses; None where a score is no number (NaN).
        """
        options = self._options
        found = self._search_once(encoded, lengths, options, meter, members)
        while options.minlenratio >= _MINLENRATIO_STEP:
            empty = [row for row, hypotheses in enumerate(found) if hypotheses == []]
            if not empty:
                break
            least = max(0.0, options.minlenratio - _MINLENRATIO_STEP)
            logging.warning(
                f"{len(empty)} utterances found nothing: now with minlenratio {least:.3g}"
            )
            options = dataclasses.replace(options, minlenratio=least)
            left = [(search, x[empty], sizes[empty]) for search, x, sizes in members]
            again = self._search_once(encoded[empty], lengths[empty], options, meter, left)
            for row, hypotheses in zip(empty, again, strict=True):
                found[row] = hypotheses
        return found

    def _search_once(
        self,
        encoded: Tensor,
        lengths: Tensor,
        options: SearchOptions,
        meter: Meter,
        members: Sequence["Member"],
    ) -> list[list[Hypothesis] | None]:
        decoder, model = self._model.decoder, self._model
        skip = getattr(model, "ctc_skip_tokens", 0)
        others = self._lm is not None or self._ngram is not None or members
        others = others or options.needs_plain_search or options.ctc_weight == 1.0
        if not (others or self._no_graph) and options is self._options:
            if self._graph_search is None:
                ctc = self._ctc.log_softmax if options.ctc_weight else None
                given = decoder, model.eos, options, self._blank, ctc, skip
                self._graph_search = GraphSearch(*given)
            with meter.part("decoder_s"):
                return self._graph_search(encoded, lengths, meter.note_cache)
        inputs = encoded.to(self._dtype)
        with meter.part("decoder_s"):
            scorers = {"decoder": self._decoder_scorer(inputs, lengths, options)}
            if members:
                each = [search._decoder_scorer(x, n, options) for search, x, n in members]
                scorers["decoder"] = EnsembleScorer([scorers["decoder"], *each])
            text = inputs[:, :0].float()
            if self._lm is not None:
                scorers["lm"] = ESPnetScorer(self._lm, inputs[:, :0], lengths)
            partial_scorers = {}
            if self._ngram is not None and self._ngram_is_partial:
                partial_scorers["ngram"] = ESPnetPartialScorer(self._ngram, text, lengths)
            elif self._ngram is not None:
                scorers["ngram"] = ESPnetScorer(self._ngram, text, lengths)
        for scorer in (*scorers.values(), *partial_scorers.values()):
            meter.watch("decoder_s", scorer, "score", "reorder", "select")
        if options.sampling:
            frames = lengths.tolist()
            return sample(
                scorers, self._weights, frames, model.eos, options, self._device, self._blank
            )
        ctc = None
        if options.ctc_weight:
            with meter.part("ctc_s"):
                each = [(self, encoded, lengths), *members]
                posteriors = average([search._ctc.log_softmax(x) for search, x, _ in each])
                ctc = CTCPrefixScorer(posteriors, lengths, self._blank, model.eos, skip)
            meter.watch("ctc_s", ctc, "start", "score", "extend", "select")
        if options.ctc_weight == 1.0:  # no decoder chooses what CTC scores
            options = dataclasses.replace(options, pre_beam_ratio=len(model.token_list))
        return beam_search(
            scorers, self._weights, lengths.tolist(), model.eos, options, self._device, ctc,
            partial_scorers, self._blank,
        )  # fmt: skip

    def _decoder_scorer(self, inputs: Tensor, lengths: Tensor, options: SearchOptions):
        """Return what scores by the decoder among others, or where no graph serves."""
        decoder, inputs = self._model.decoder, inputs.to(self._dtype)
        if not isinstance(decoder, DecoderOnly):
            return ESPnetScorer(decoder, inputs, lengths, options.temperature)
        beam, temperature = options.beam_size, options.temperature
        if not self._no_graph:
            size = len(lengths), inputs.size(1), beam
            if self._buffers is None or not self._buffers.fits(*size):
                self._buffers = None  # freed before the next are made
                self._buffers = StepBuffers(decoder, *size)
            return GraphScorer(decoder, inputs, lengths, beam, temperature, self._buffers)
        self._prepared = self._prepared or DecoderStep(decoder)
        cache = self._prepared.init_cache(inputs, lengths, self._prefix_cache, beam)
        return DecoderScorer(self._prepared, inputs, lengths, temperature, cache=cache)

    def _how_steps_run(self) -> str:
        if self._no_graph:
            return f"without CUDA graphs: {self._no_graph}"
        plain = choose.no_decode_kernels(self._model.decoder.blocks[0].attention)
        kernels = f"plain operations, not kernels: {plain}" if plain else "Triton kernels"
        return f"in CUDA graphs on {self._device}, by {kernels}"

    def _why_no_graph(self) -> str:
        """Return why the decoder's steps do not run in CUDA graphs; empty if they do."""
        decoder = self._model.decoder
        why = why_no_graph(decoder, self._device)
        if not why and decoder.keeps_latents and self._prefix_cache == "latent":
            why = "prefix_cache is latent, and they keep keys and values"
        return why


# Of an ensemble: a model's search, its encoder output (B, T, d), and lengths (B,).
type Member = tuple[ModelSearch, Tensor, Tensor]
