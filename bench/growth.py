"""How time and memory of decoding on a GPU grow with prefix, tokens, beam and utterances.

The search that recipes use (`GraphSearch`, bf16) over models of `decode.py`: 9 layers of
512/8/2048, a vocabulary of 8000, random weights, no end of sentence. One number changes at a
time; a point is the least of a few warm searches, and the peak of memory above the weights in the
first one, in which the cache grows. `peer` is the PyPI package `mtla` (s=2, float32) in its own
way. Points are kept in a JSON file as they come: the same command goes on where it ended, and
begins none after `--seconds`.

    python bench/growth.py growth.json [--kinds mha mtla2 ...] [--seconds 150]
    python bench/growth.py growth.json --plot DIR    # needs matplotlib, and no GPU

The plots are log-log; beside each curve stands the exponent that fits its upper half.
"""

import argparse
import gc
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

KINDS = ["mha", "gqa", "mqa", "mla", "mtla2", "mtla3", "mtla4"]
PEER = "peer"
# What stays as it is while one number changes, and the values of that.
BASE = {
    "prefix": {"utterances": 4, "tokens": 30, "beam": 50},
    "tokens": {"utterances": 8, "prefix": 600, "beam": 50},
    "beam": {"utterances": 84, "prefix": 149, "tokens": 30},
    "utterances": {"prefix": 149, "tokens": 30, "beam": 50},
}
VALUES = {
    "prefix": [150, 500, 1500, 5000, 15000],
    "tokens": [30, 100, 300, 1000],
    "beam": [1, 5, 10, 20, 50],
    "utterances": [8, 21, 42, 84, 168, 336],
}
WARM = 2  # searches that are timed


def points() -> Iterator[tuple[str, dict[str, int]]]:
    """Yield what changes and the numbers of each point."""
    for axis, values in VALUES.items():
        for value in values:
            yield axis, BASE[axis] | {axis: value}


def exponent(sizes: list[float], measured: list[float]) -> float:
    """Return the slope of the line that fits the logarithms of the upper half best.

    Example:
        >>> round(exponent([1, 10, 100], [7.0, 20.0, 2000.0]), 3)
        2.0
    """
    half = slice(max(0, len(sizes) - max(2, math.ceil(len(sizes) / 2))), None)
    x, y = ([math.log(value) for value in values[half]] for values in (sizes, measured))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)


class Machine:
    """Measures points on the GPU."""

    def __init__(self):
        self._kind, self._decoder = "", None

    def __call__(self, kind: str, numbers: Mapping[str, int]) -> dict[str, float | None]:
        """Return milliseconds and GiB of a point; None where it does not fit into memory."""
        import decode
        import torch

        if kind != self._kind:
            self._decoder, self._kind = None, kind
            dtype = torch.float32 if kind == PEER else torch.bfloat16
            self._decoder = (
                decode.PeerDecoder(2).eval().cuda()
                if kind == PEER
                else decode.decoder_of(kind, dtype)
            )
        gc.collect()
        torch.cuda.empty_cache()
        base = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        try:
            with torch.inference_mode():
                ms = self._least_ms(numbers)
        except torch.OutOfMemoryError:
            return {"ms": None, "gib": None}
        return {"ms": ms, "gib": (torch.cuda.max_memory_allocated() - base) / 2**30}

    def _least_ms(self, numbers: Mapping[str, int]) -> float:
        import decode
        import torch

        count, prefix = numbers["utterances"], numbers["prefix"]
        draw = torch.Generator().manual_seed(1)
        hidden = torch.randn(count, prefix, decode.SIZE, generator=draw).cuda()
        if self._kind == PEER:
            decode.BEAM, decode.TOKENS = numbers["beam"], numbers["tokens"]
            run, times = lambda: self._decoder.search(hidden), 1
        else:
            options = decode.SearchOptions(
                beam_size=numbers["beam"], maxlenratio=-numbers["tokens"]
            )
            search = decode.GraphSearch(self._decoder, decode.SOS_EOS, options)
            encoded, lengths = hidden.bfloat16(), torch.full((count,), prefix).cuda()
            run, times = lambda: search(encoded, lengths), WARM + 1
        found = []
        for _ in range(times + 1):  # the first compiles; ours captures in the second
            torch.cuda.synchronize()
            begin = time.perf_counter()
            run()
            torch.cuda.synchronize()
            found.append(1e3 * (time.perf_counter() - begin))
        return min(found[1:])


def measure(path: Path, kinds: list[str], seconds: float) -> None:
    """Add the points that are missing to the file."""
    import torch

    data = json.loads(path.read_text()) if path.exists() else {"device": "", "points": []}
    data["device"] = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    known = {(each["kind"], each["axis"], each[each["axis"]]) for each in data["points"]}
    begin, machine = time.monotonic(), Machine()
    for kind in kinds:
        for axis, numbers in points():
            if (kind, axis, numbers[axis]) in known:
                continue
            if time.monotonic() - begin > seconds:
                print("time is over: the same command goes on")
                return
            found = machine(kind, numbers)
            data["points"].append({"kind": kind, "axis": axis, **numbers, **found})
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(data, indent=0) + "\n")
            temporary.replace(path)
            print(kind, axis, numbers[axis], found, flush=True)


def curves(data: dict, axis: str, measured: str) -> dict[str, tuple[list[int], list[float]]]:
    """Return kind -> sizes and what was measured there."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for each in sorted(data["points"], key=lambda point: point[axis]):
        if each["axis"] == axis and each[measured] is not None:
            sizes, values = found.setdefault(each["kind"], ([], []))
            sizes.append(each[axis])
            values.append(each[measured])
    return found


def plot(path: Path, directory: Path) -> None:
    """Write `growth_time.png` and `growth_memory.png`, and print the exponents."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    data = json.loads(path.read_text())
    for measured, name, title in (
        ("ms", "time", "milliseconds of a search"),
        ("gib", "memory", "GiB above the weights, at the peak"),
    ):
        figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
        for place, axis in zip(axes.flat, VALUES, strict=True):
            for kind, (sizes, values) in curves(data, axis, measured).items():
                if len(sizes) < 2:
                    continue
                label = f"{kind} {exponent(sizes, values):.2f}"
                style = "--" if kind == PEER else "-"
                place.loglog(sizes, values, style, marker="o", markersize=3, label=label)
                print(f"{name} by {axis}: {label}")
            fixed = ", ".join(f"{key} {value}" for key, value in BASE[axis].items())
            place.set_xlabel(f"{axis} ({fixed})")
            place.grid(alpha=0.3, which="both")
            place.legend(fontsize="small", title="kind, exponent", title_fontsize="small")
        figure.suptitle(f"{title} ({data['device']})")
        figure.savefig(directory / f"growth_{name}.png", dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="JSON of the points")
    parser.add_argument("--kinds", nargs="+", default=[*KINDS, PEER], choices=[*KINDS, PEER])
    parser.add_argument("--seconds", type=float, default=150, help="begin no point after it")
    parser.add_argument("--plot", type=Path, help="make plots there instead of measuring")
    args = parser.parse_args()
    if args.plot:
        plot(args.file, args.plot)
    else:
        measure(args.file, args.kinds, args.seconds)


if __name__ == "__main__":
    main()
