"""Time and memory of beam search on a GPU: kinds of attention, prefix shared or copied.

84 utterances of 149 prefix positions, beam 50, 30 tokens, 9 layers of 512/8/2048, a
vocabulary of 8000, random weights; the end of sentence is suppressed, so that every way
does the same work. Measured is a whole search, from the encoder output on the GPU to the
best hypotheses on the host; memory is the peak above the weights. Ways:

copied      the plain search; each hypothesis has a prefix of its own, as in the paper's code
shared      the plain search over one prefix an utterance
scorer      the plain search around the decoder's step as a graph
graph       the search that recipes use on a GPU where the decoder alone scores
ctc         the plain search over one prefix an utterance, joint with CTC (weight 0.3)
ctc_scorer  that around the decoder's step as a graph
ctc_graph   all of it in one graph, as recipes decode on a GPU
peer        the PyPI package `mtla` in its own way: K/V a hypothesis, all of it reordered
"""

import argparse
import dataclasses
import gc
import statistics
import time

import torch
from kernel_time import kernel_ms, kernels
from torch import nn

from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.decoder.step import DecoderStep
from mtla_espnet.search.beam import DecoderScorer, beam_search
from mtla_espnet.search.ctc import CTCPrefixScorer
from mtla_espnet.search.graph.scorer import GraphScorer, StepBuffers
from mtla_espnet.search.graph.search import GraphSearch
from mtla_espnet.search.options import SearchOptions

UTTERANCES, POSITIONS, BEAM, TOKENS = 84, 149, 50, 30
LAYERS, SIZE, HEADS, UNITS, VOCABULARY = 9, 512, 8, 2048, 8000
SOS_EOS = VOCABULARY - 1
KINDS = {
    "mha": ("mha", {}),
    "gqa": ("gqa", {}),
    "mqa": ("mqa", {}),
    "mla": ("mla", {}),
    "gla": ("gla", {}),
    "mtla2": ("mtla", {"down_rate": 2}),
    "mtla3": ("mtla", {"down_rate": 3}),
    "mtla4": ("mtla", {"down_rate": 4}),
    "softmax2": ("mtla", {"down_rate": 2, "merge": "softmax"}),
}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
WAYS = ["peer", "copied", "shared", "scorer", "graph", "ctc", "ctc_scorer", "ctc_graph"]
CTC_WEIGHT = 0.3
OPTIONS = SearchOptions(beam_size=BEAM, maxlenratio=-TOKENS)


def decoder_of(kind: str, dtype: torch.dtype) -> DecoderOnly:
    torch.manual_seed(0)
    attention, conf = KINDS[kind]
    decoder = DecoderOnly(
        VOCABULARY,
        SIZE,
        attention=attention,
        attention_conf=conf,
        attention_heads=HEADS,
        linear_units=UNITS,
        num_blocks=LAYERS,
    ).eval()
    decoder.output_layer.bias.data[SOS_EOS] = -1e4
    return decoder.to("cuda", dtype)


class PeerDecoder(nn.Module):
    """Blocks like ours around the package's attention, decoding as its documentation says."""

    def __init__(self, down_rate: int):
        from mtla import MultiheadTemporalLatentAttention

        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, SIZE)
        self.attention = nn.ModuleList(
            MultiheadTemporalLatentAttention(SIZE, HEADS, down_rate=down_rate)
            for _ in range(LAYERS)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(SIZE) for _ in range(2 * LAYERS + 1))
        self.wide = nn.ModuleList(nn.Linear(SIZE, UNITS) for _ in range(LAYERS))
        self.narrow = nn.ModuleList(nn.Linear(UNITS, SIZE) for _ in range(LAYERS))
        self.output = nn.Linear(SIZE, VOCABULARY)
        self.output.bias.data[SOS_EOS] = -1e4

    def step(self, tokens, position, prefix, state):
        """Return logits (N, V); `prefix` is there at the first step alone."""
        x = self.embed(tokens)[:, None] * SIZE**0.5
        for layer, attention in enumerate(self.attention):
            h = self.norms[2 * layer](x)
            key = h if prefix is None else torch.cat((prefix, h), dim=1)
            x = x + attention(h, key, key, position=position, incremental_state=state)
            h = self.norms[2 * layer + 1](x)
            x = x + self.narrow[layer](self.wide[layer](h).relu())
        return self.output(self.norms[-1](x))[:, 0]

    def search(self, encoded):
        """Return the best tokens of each utterance; all hypotheses start with a prefix."""
        batch = len(encoded)
        prefix = encoded.repeat_interleave(BEAM, dim=0)
        total = torch.full((batch, BEAM), float("-inf"), device="cuda")
        total[:, 0] = 0.0
        tokens = torch.full((batch * BEAM,), SOS_EOS, device="cuda")
        history = tokens[:, None]
        first = torch.arange(batch, device="cuda")[:, None] * BEAM
        state = {}
        position = torch.arange(encoded.size(1) + 1, device="cuda").float().expand(len(tokens), -1)
        for _ in range(TOKENS):
            score = self.step(tokens, position, prefix, state).log_softmax(dim=-1)
            score = total.flatten()[:, None] + score
            total, which = score.view(batch, -1).topk(BEAM, dim=1)
            rows = (which // VOCABULARY + first).flatten()
            tokens = (which % VOCABULARY).flatten()
            history = torch.cat((history[rows], tokens[:, None]), dim=1)
            for attention in self.attention:
                attention.reorder_incremental_state(state, rows)
            prefix, position = None, position[:, -1:] + 1
        return history.view(batch, BEAM, -1)[:, 0].tolist()


def measure(run, repeats: int) -> tuple[float, float, object]:
    """Return the median milliseconds of warm runs, the peak GiB above now, and a result."""
    torch.cuda.synchronize()
    gc.collect()
    base = torch.cuda.memory_allocated()
    for _ in range(2):  # compile, then capture
        run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        result = run()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times), (torch.cuda.max_memory_allocated() - base) / 2**30, result


class CopiedScorer(DecoderScorer):
    """Gives every hypothesis a prefix of its own."""

    copies = 1

    def reorder(self, parents):
        """Let row n go on from row parents[n], (N',) int64."""
        if len(parents) > self.cache.rows:
            self.copies = len(parents) // self.cache.rows
            rows = torch.arange(self.cache.rows, device=parents.device)
            self.cache.select(rows.repeat_interleave(self.copies))
        else:
            self.cache.reorder(parents)

    def select(self, utterances):
        """Keep the rows of these utterances, (B',) int64."""
        copy = torch.arange(self.copies, device=utterances.device)
        self.cache.select((utterances[:, None] * self.copies + copy).flatten())


def ways(kind: str, dtype: torch.dtype, encoded, lengths):
    """Yield name and function of each way that there is."""
    if dtype == torch.float32 and kind.startswith("mtla"):
        torch.manual_seed(0)
        peer = PeerDecoder(int(kind[-1])).eval().cuda()
        yield "peer", lambda: peer.search(encoded)
        del peer
    decoder = decoder_of(kind, dtype)

    prepared, sizes = DecoderStep(decoder), lengths.tolist()

    def posteriors_of(hidden):
        found = (hidden.float() @ ctc_layer).log_softmax(dim=-1)
        found[..., SOS_EOS] = -1e4
        return found

    def plain(scorer, options=OPTIONS):
        weights, ctc = {"decoder": 1.0 - options.ctc_weight}, None
        if options.ctc_weight:
            weights["ctc"] = options.ctc_weight
            ctc = CTCPrefixScorer(posteriors_of(encoded), lengths, 0, SOS_EOS)
        scorers = {"decoder": scorer}
        return beam_search(scorers, weights, sizes, SOS_EOS, options, encoded.device, ctc)

    kept = []  # from the first run on

    def steps():
        if not kept:
            kept.append(StepBuffers(decoder, len(sizes), max(sizes), BEAM))
        return GraphScorer(decoder, encoded, lengths, BEAM, buffers=kept[0])

    yield "copied", lambda: plain(CopiedScorer(prepared, encoded, lengths))
    yield "shared", lambda: plain(DecoderScorer(prepared, encoded, lengths))
    yield "scorer", lambda: plain(steps())
    search = GraphSearch(decoder, SOS_EOS, OPTIONS)
    yield "graph", lambda: search(encoded, lengths)
    kept.clear()
    ctc_layer = torch.randn(SIZE, VOCABULARY, device="cuda") / SIZE**0.5
    joint = dataclasses.replace(OPTIONS, ctc_weight=CTC_WEIGHT)
    yield "ctc", lambda: plain(DecoderScorer(prepared, encoded, lengths), joint)
    yield "ctc_scorer", lambda: plain(steps(), joint)
    kept.clear()

    both = GraphSearch(decoder, SOS_EOS, joint, 0, posteriors_of)
    yield "ctc_graph", lambda: both(encoded, lengths)


def profile(run) -> None:
    """Print where the time of a search goes, by kernel."""
    found = kernels(run)
    print(f"kernels: {kernel_ms(found):.1f} ms")
    for event in found[:30]:
        print(f"{event.self_device_time_total / 1e3:8.2f} ms {event.count:6d} x {event.key[:100]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--positions", type=int, default=POSITIONS, help="of a prefix")
    parser.add_argument("--ragged", action="store_true", help="prefixes from half as long on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()

    print(torch.cuda.get_device_name(), f"torch {torch.__version__}", time.strftime("%d %b %Y"))
    print("kind   dtype  way            ms  GiB above weights  same best as plain")
    generator = torch.Generator().manual_seed(1)
    size = args.positions
    lengths = torch.full((UTTERANCES,), size)
    if args.ragged:
        lengths = torch.randint(size // 2, size + 1, (UTTERANCES,), generator=generator)
    hidden = torch.randn(UTTERANCES, size, SIZE, generator=generator)
    lengths = lengths.cuda()
    for kind in args.kinds:
        for name in args.dtypes:
            encoded = hidden.to("cuda", DTYPES[name])
            best = {}
            with torch.inference_mode():
                for way, run in ways(kind, DTYPES[name], encoded, lengths):
                    if way not in args.ways:
                        continue
                    ms, gib, best[way] = measure(run, args.repeats)
                    same = ""
                    plain = {"graph": "shared", "ctc_scorer": "ctc", "ctc_graph": "ctc"}.get(way)
                    if plain in best:
                        pairs = zip(best[plain], best[way], strict=True)
                        equal = sum(a[0].yseq == b[0].yseq for a, b in pairs)
                        same = f"{equal} of {UTTERANCES}"
                    print(f"{kind:6} {name:6} {way:10} {ms:7.1f} {gib:8.2f}  {same}", flush=True)
                    if args.profile:
                        profile(run)
                    del run
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
