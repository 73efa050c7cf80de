#!/usr/bin/env python3
r"""Search time on a CPU: our search against ESPnet's own, in one run on the same batches.

Each experiment of a recipe is decoded by our search and, the same model, by ESPnet's own
`Speech2Text` with its BatchBeamSearch; tokens are compared. `--peer` is an experiment with
ESPnet's Transformer decoder, decoded by ESPnet's own search. Times are the least of the
repetitions; audio is read before.

usage: bench/decode_cpu.py --data egs2/smarthome/asr1/dump/raw/test \
           --peer egs2/smarthome/asr1/exp/asr_transformer egs2/smarthome/asr1/exp/asr_...
"""

import argparse
import contextlib
import dataclasses
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.inference.meter import Meter
from mtla_espnet.inference.model_files import model_files, read_config
from mtla_espnet.inference.speech2text import Speech2Text

BEAMS, CTC_WEIGHTS = (5, 10), (0.0, 0.3)


@dataclasses.dataclass
class Times:
    """Seconds of one decode of the set, and the tokens that were found."""

    encoder_s: float
    search_s: float
    total_s: float
    tokens: list[list[int]]
    parts_s: tuple[float, float] | None = None  # decoder, CTC


def read_batches(data_dir: Path, count: int, size: int) -> list[list]:
    """Read the first utterances of a set, sorted by length, in batches."""
    recordings = list(read_table(data_dir / "wav.scp").values())[:count]
    waves = sorted((read_audio(path)[0] for path in recordings), key=len, reverse=True)
    return [waves[begin : begin + size] for begin in range(0, len(waves), size)]


def ours(experiment: Path, beam: int, ctc_weight: float) -> Callable[[list], Times]:
    """Return a function that decodes batches by our search."""
    options = {"beam_size": beam, "ctc_weight": ctc_weight}
    speech2text = Speech2Text.from_pretrained(experiment, **options)

    def decode(batches: list) -> Times:
        meter = Meter("cpu")
        tokens = []
        with meter.whole() as cost:
            for batch in batches:
                found = speech2text.batch_decode(batch, meter)
                tokens += [results[0][2] for results in found]
        parts_s = (cost.decoder_s, cost.ctc_s)
        return Times(cost.encoder_s, cost.search_s, cost.total_s, tokens, parts_s)

    return decode


def espnets(experiment: Path, beam: int, ctc_weight: float) -> Callable[[list], Times]:
    """Return a function that decodes batches by ESPnet's own class."""
    from espnet2.bin.asr_inference import Speech2Text as Peer

    import mtla_espnet.tasks  # noqa: F401  (registers our decoder)

    with tempfile.TemporaryDirectory() as directory, model_files(experiment) as files:
        config = Path(directory, "config.yaml")
        config.write_text(yaml.safe_dump(read_config(files["asr_train_config"])))
        with contextlib.redirect_stderr(io.StringIO()):
            peer = Peer(
                str(config),
                str(files["asr_model_file"]),
                batch_size=2,  # any above one: a list is decoded as a batch
                beam_size=beam,
                ctc_weight=ctc_weight,
            )
        peer.tokenizer.tokens2text([])
    seconds = {"encode": 0.0, "forward": 0.0}

    def timed(owner: torch.nn.Module, name: str) -> None:
        function = getattr(owner, name)

        def call(*args, **kwargs):
            begin = time.perf_counter()
            result = function(*args, **kwargs)
            seconds[name] += time.perf_counter() - begin
            return result

        setattr(owner, name, call)

    timed(peer.asr_model, "encode")
    timed(peer.beam_search, "forward")

    def decode(batches: list) -> Times:
        seconds.update(encode=0.0, forward=0.0)
        begin = time.perf_counter()
        tokens = []
        for batch in batches:
            for results in peer.batch_decode(batch):
                eos = peer.asr_model.eos  # at the length limit it is appended once more
                tokens.append([token for token in results[0][2] if token != eos])
        total_s = time.perf_counter() - begin
        return Times(seconds["encode"], seconds["forward"], total_s, tokens)

    return decode


def best_of(decoders: list[Callable[[list], Times]], batches: list, repeat: int) -> list[Times]:
    """Decode by turns; of each decoder keep the fastest search."""
    for decode in decoders:
        decode(batches[-1:])  # warm-up
    runs = [[decode(batches) for decode in decoders] for _ in range(repeat)]
    return [min(times, key=lambda t: t.search_s) for times in zip(*runs, strict=True)]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="formatted set with wav.scp")
    parser.add_argument("--peer", type=Path, help="experiment with ESPnet's Transformer decoder")
    parser.add_argument("--utterances", type=int, default=600)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--processor_time",
        action="store_true",
        help="count seconds of the processor, where others use the machine too; with 1 thread",
    )
    parser.add_argument("experiments", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.processor_time:
        time.perf_counter = time.process_time  # for our meter as well
    torch.set_num_threads(arguments.threads)
    batches = read_batches(arguments.data, arguments.utterances, arguments.batch_size)
    count = sum(map(len, batches))
    print(f"{count} utterances, batch {arguments.batch_size}, {arguments.threads} threads\n")
    print("|beam|CTC|model, search|encoder s|search s|decoder / CTC / rest s|total s|")
    print("|---|---|---|---|---|---|---|")
    ratios = []
    for beam in BEAMS:
        for ctc_weight in CTC_WEIGHTS:
            setting = (beam, ctc_weight)
            decoders = {}
            for path in arguments.experiments:
                decoders[f"{path.name}, ours"] = ours(path, *setting)
                decoders[f"{path.name}, ESPnet's"] = espnets(path, *setting)
            if arguments.peer:
                decoders[f"{arguments.peer.name}, ESPnet's"] = espnets(arguments.peer, *setting)
            best = best_of(list(decoders.values()), batches, arguments.repeat)
            rows = dict(zip(decoders, best, strict=True))
            for name, times in rows.items():
                split = "-"
                if times.parts_s:
                    rest = times.search_s - sum(times.parts_s)
                    split = " / ".join(f"{value:.2f}" for value in (*times.parts_s, rest))
                print(
                    f"|{beam}|{ctc_weight}|{name}|{times.encoder_s:.2f}|{times.search_s:.2f}"
                    f"|{split}|{times.total_s:.2f}|",
                    flush=True,
                )
            for path in arguments.experiments:
                mine, same = rows[f"{path.name}, ours"], rows[f"{path.name}, ESPnet's"]
                differ = sum(a != b for a, b in zip(mine.tokens, same.tokens, strict=True))
                line = f"beam {beam}, CTC {ctc_weight}, {path.name}: the same model "
                line += f"{same.search_s / mine.search_s:.2f}x in search, "
                line += f"{same.total_s / mine.total_s:.2f}x in total, {differ} of {count} differ"
                if arguments.peer:
                    other = rows[f"{arguments.peer.name}, ESPnet's"]
                    line += f"; Transformer decoder {other.search_s / mine.search_s:.2f}x in "
                    line += f"search, {other.total_s / mine.total_s:.2f}x in total"
                ratios.append(line)
    print("\n" + "\n".join(ratios))


if __name__ == "__main__":
    main()
