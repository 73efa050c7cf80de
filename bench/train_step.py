"""Time of one update of a whole decoder-only ASR model of the paper's size, on CUDA.

ESPnet's ASR model: our Conv1d front end and ESPnet's Transformer (12 layers, 512/8/2048)
as encoder, CTC, 9 decoder-only layers, vocabulary 8000; forward, loss, backward and Adam
under bf16 autocast. Batches are ragged and sorted by length, as ESPnet's sampler makes
them: lengths drawn as in read speech (a median of 6 s and 30 tokens), up to 20,000
encoder positions a batch with padding. All kinds see the same batches in turn, several
times over; the median over rounds is the time. What the GPU's kernels take of it is told
besides, since a slow host launches them too late. The encoder attends by SDPA, as in the
recipes, or with `--plain_encoder` by ESPnet's plain operations, which are its default. Losses
are those of our tasks, or with `--plain_losses` ESPnet's. Adam is fused, as in our tasks. The kind
`espnet` is ESPnet's own Transformer decoder with as many layers, all of ESPnet's defaults, its
losses and its Adam. `--graphs` adds a row for each other kind with `--train_graphs`: the same
batches, filled up to a graph's shape; its GiB are those of the capture.

    python bench/train_step.py [--prefix static recompute] [--kinds mha mtla2 ...] [--graphs]
"""

import argparse
import contextlib
import functools
import statistics
import time

import torch
from espnet2.asr import espnet_model
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.legacy.nets.pytorch_backend import nets_utils
from espnet2.legacy.nets.pytorch_backend.transformer import add_sos_eos, label_smoothing_loss
from espnet2.torch_utils import device_funcs
from kernel_time import kernel_ms, kernels

from mtla_espnet.decoder.decoder_only import PREFIX_MODES, DecoderOnly
from mtla_espnet.encoder.conv1d_subsampling import Conv1dTransformerEncoder
from mtla_espnet.tasks import losses
from mtla_espnet.tasks.graphs import GraphedModel

KINDS = ("mha", "mla", "mtla2", "mtla4", "espnet")
FEATURES, SHORTENING = 80, 4
INPUTS = ("speech", "speech_lengths", "text", "text_lengths")
ESPNETS = {
    "add_sos_eos": add_sos_eos.add_sos_eos,
    "th_accuracy": nets_utils.th_accuracy,
    "LabelSmoothingLoss": label_smoothing_loss.LabelSmoothingLoss,
    "force_gatherable": device_funcs.force_gatherable,
}


def batches(count, positions, vocabulary, device):
    """Draw `count` batches of (speech, lengths, text, lengths), at most `positions` each."""
    draw = torch.Generator().manual_seed(0)
    frames = (torch.randn(20_000, generator=draw) * 0.5).exp() * 600
    frames = frames.clamp(100, 3000).long().sort().values
    ratio = (torch.randn(len(frames), generator=draw) * 0.15).exp() / 20
    tokens = (frames * ratio).long().clamp_min(1)
    rows, end = [], len(frames)
    while end > 0:
        size = max(1, positions * SHORTENING // int(frames[end - 1]))
        rows.append(slice(max(0, end - size), end))
        end -= size
    chosen = torch.randperm(len(rows), generator=draw)[:count]
    for index in chosen.tolist():
        lengths, text_lengths = frames[rows[index]], tokens[rows[index]]
        speech = torch.randn(len(lengths), int(lengths.max()), FEATURES, generator=draw)
        shape = len(lengths), int(text_lengths.max())
        text = torch.randint(2, vocabulary - 1, shape, generator=draw)
        text[torch.arange(shape[1]) >= text_lengths[:, None]] = -1
        yield tuple(x.to(device) for x in (speech, lengths, text, text_lengths))


@contextlib.contextmanager
def losses_of(ours):
    """Let ESPnet's model compute by our losses while it is built and called, or by its own."""
    before = {name: getattr(espnet_model, name) for name in ESPNETS}
    for name, own in ESPNETS.items():
        setattr(espnet_model, name, getattr(losses, name) if ours else own)
    try:
        yield losses.CTC if ours else CTC
    finally:
        for name, value in before.items():
            setattr(espnet_model, name, value)


def build(
    kind,
    prefix,
    ctc=CTC,
    vocabulary=8000,
    size=512,
    heads=8,
    encoder_blocks=12,
    decoder_blocks=9,
    use_sdpa=True,
):
    """Return the model."""
    torch.manual_seed(0)
    options = {"down_rate": int(kind[4:])} if kind.startswith("mtla") else {}
    sizes = {"attention_heads": heads, "num_blocks": decoder_blocks}
    if kind == "espnet":
        decoder = TransformerDecoder(vocabulary, size, **sizes)
    else:
        decoder = DecoderOnly(
            vocabulary,
            size,
            attention=kind.rstrip("0123456789"),
            attention_conf=options,
            prefix=prefix,
            **sizes,
        )
    encoder = Conv1dTransformerEncoder(
        FEATURES, size, attention_heads=heads, num_blocks=encoder_blocks, use_sdpa=use_sdpa
    )
    tokens = ["<blank>", "<unk>", *map(str, range(vocabulary - 3)), "<sos/eos>"]
    return espnet_model.ESPnetASRModel(
        vocabulary,
        tokens,
        frontend=None,
        specaug=None,
        normalize=None,
        preencoder=None,
        encoder=encoder,
        postencoder=None,
        decoder=decoder,
        ctc=ctc(vocabulary, size),
        joint_network=None,
        ctc_weight=0.3,
        lsm_weight=0.1,
        report_cer=False,
        report_wer=False,
    )


class Training:
    """A model with its optimizer; of a kind such as `mtla2 graphs`, with graphs of all batches."""

    def __init__(self, kind, prefix, use_sdpa=True, lean=True):
        kind, _, graphs = kind.partition(" ")
        is_espnets = kind == "espnet"
        self.lean = lean and not is_espnets
        with losses_of(self.lean) as ctc:
            self.model = build(kind, prefix, ctc, use_sdpa=use_sdpa and not is_espnets).cuda()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=not is_espnets)
        if graphs:
            self.model = GraphedModel(self.model, 1000).train()

    def update(self, batch):
        """Forward, loss, backward, Adam."""
        with torch.autocast("cuda", dtype=torch.bfloat16), losses_of(self.lean):
            loss, _, _ = self.model(**dict(zip(INPUTS, batch, strict=True)))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def round(self, data):
        """Return seconds for all batches."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        for batch in data:
            self.update(batch)
        torch.cuda.synchronize()
        return time.perf_counter() - start


def measure(kinds, prefix, data, rounds, use_sdpa, lean):
    """Return ms an update, ms of kernels in it, and GiB at the peak, by kind; kinds take turns."""
    trainings, memory, kernel = {}, {}, {}
    for kind in kinds:
        held = torch.cuda.memory_allocated()
        training = trainings[kind] = Training(kind, prefix, use_sdpa, lean)
        training.round(data)  # compiles our kernels, allocates
        torch.cuda.reset_peak_memory_stats()
        training.round(data)  # captures
        memory[kind] = (torch.cuda.max_memory_allocated() - held) / 2**30
    seconds = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            seconds[kind].append(trainings[kind].round(data))
    for kind, training in trainings.items():
        kernel[kind] = kernel_ms(kernels(functools.partial(training.round, data))) / len(data)
    ms = {kind: statistics.median(s) / len(data) * 1e3 for kind, s in seconds.items()}
    return ms, kernel, memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prefix", nargs="+", default=PREFIX_MODES, choices=PREFIX_MODES)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--plain_encoder", action="store_true")
    parser.add_argument("--plain_losses", action="store_true")
    parser.add_argument("--graphs", action="store_true")
    args = parser.parse_args()
    data = list(batches(args.batches, 20_000, 8000, "cuda"))
    print(torch.cuda.get_device_name(), torch.__version__)
    shapes = ", ".join(f"{len(b[0])} x {b[0].size(1)}/{b[2].size(1)}" for b in data)
    print(f"utterances x frames/tokens: {shapes}")
    columns = "ms an update", "ms of kernels", "GiB"
    head = " | ".join(f"{column} | x {args.kinds[0]}" for column in columns)
    kinds = list(args.kinds)
    if args.graphs:
        kinds += [f"{kind} graphs" for kind in args.kinds if kind != "espnet"]
    print(f"| prefix | kind | {head} |\n" + "|---" * (2 + 2 * len(columns)) + "|")
    for prefix in args.prefix:
        ways = not args.plain_encoder, not args.plain_losses
        measured = measure(kinds, prefix, data, args.rounds, *ways)
        for kind in kinds:
            cells = (f"{by[kind]:.2f} | {by[kind] / by[args.kinds[0]]:.3f}" for by in measured)
            print(f"| {prefix} | {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
