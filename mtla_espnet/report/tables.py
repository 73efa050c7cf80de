"""RESULTS.md of an experiment: what each decode reached, and what it cost."""

import dataclasses
import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import mtla_espnet
from mtla_espnet.files import UserError, write_text
from mtla_espnet.score.efficiency import FILE, SEARCH_PARTS, read_efficiency
from mtla_espnet.score.result import Totals, read_result

RATES = ("wer", "cer", "ter")

_RATE_COLUMNS = ("dataset", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")
_COST_COLUMNS = (
    "dataset", "attention", "s", "beam", "batch", "device", "dtype", "Snt", "audio s", "tokens",
    "decode s", "RTF", "utt/s", "KV B/pos", "KV peak MB", "KV alloc MB", "peak memory MB",
)  # fmt: skip
_TIME_COLUMNS = (
    "dataset", "decode s", "encoder s", "search s", "decoder s", "CTC s", "bookkeeping s",
)  # fmt: skip
_TIME_NOTE = (
    "Time of a decode: reading audio, encoder and search; of the search the decoder (with a "
    "language model), CTC prefix scores and bookkeeping."
)


@dataclasses.dataclass(frozen=True)
class Decode:
    """One decoded set of an experiment.

    Args:
        inference_tag: which decoding.
        test_set: which set; may hold a slash (`org/valid`).
        rates: "wer", "cer", "ter" -> sums, as far as they are scored.
        efficiency: what `efficiency.json` holds; None without that file.
    """

    inference_tag: str
    test_set: str
    rates: dict[str, Totals]
    efficiency: dict | None

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.inference_tag}/{self.test_set}"


def find_decodes(exp_dir: Path) -> list[Decode]:
    """Find the decoded and scored sets of an experiment, sorted by name.

    Raises:
        UserError: a file of one of them cannot be read.
    """
    decodes = []
    for directory in sorted({path.parent.parent for path in exp_dir.rglob("score_*/result.txt")}):
        inference_tag, _, test_set = directory.relative_to(exp_dir).as_posix().partition("/")
        results = {rate: directory / f"score_{rate}" / "result.txt" for rate in RATES}
        rates = {rate: read_result(path) for rate, path in results.items() if path.exists()}
        cost = read_efficiency(directory / FILE) if (directory / FILE).exists() else None
        decodes.append(Decode(inference_tag, test_set, rates, cost))
    return decodes


def write_results(exp_dir: Path) -> str:
    """Write `RESULTS.md` of an experiment.

    Args:
        exp_dir: an experiment, `exp/asr_<tag>`.

    Returns:
        What the file holds.

    Raises:
        UserError: nothing is scored there, or a file cannot be read.
    """
    exp_dir = Path(exp_dir)
    decodes = find_decodes(exp_dir)
    if not decodes:
        raise UserError(f"{exp_dir}: nothing is scored there (run stages 12 and 13)")
    absolute = exp_dir.absolute()
    parts = [
        "# RESULTS",
        _environments(absolute),
        f"## {absolute.parent.name}/{absolute.name}",
    ]
    for rate in RATES:
        rows = [
            _rate_row(decode.name, decode.rates[rate]) for decode in decodes if rate in decode.rates
        ]
        if rows:
            parts += [f"### {rate.upper()}", markdown_table(_RATE_COLUMNS, rows)]
    costs = {decode.name: decode.efficiency for decode in decodes if decode.efficiency}
    if costs:
        rows = [_cost_row(name, cost) for name, cost in costs.items()]
        parts += ["### Efficiency", markdown_table(_COST_COLUMNS, rows)]
        rows = [_time_row(name, cost) for name, cost in costs.items()]
        parts += [_TIME_NOTE, markdown_table(_TIME_COLUMNS, rows)]
    text = "\n\n".join(parts) + "\n"
    write_text(exp_dir / "RESULTS.md", text)
    return text


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown.

    Example:
        >>> print(markdown_table(["kind", "WER"], [["mha", "0.17"]]))
        |kind|WER|
        |---|---|
        |mha|0.17|
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"|{'|'.join(line)}|" for line in lines)


def megabytes(size_bytes: float | None) -> str:
    """Write a size in MB (10^6 bytes); a dash for None.

    Example:
        >>> megabytes(1_234_567), megabytes(None)
        ('1.23', '-')
    """
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.2f}"


def or_dash(value, form: str = "") -> str:
    """Format a value; a dash for None.

    Example:
        >>> or_dash(0.12345, ".3f"), or_dash(None, ".3f")
        ('0.123', '-')
    """
    return "-" if value is None else format(value, form)


def _rate_row(name: str, totals: Totals) -> list[str]:
    sizes = [str(totals.sentences), str(totals.counts.reference)]
    shares = totals.percentages or [None] * 6
    return [name, *sizes, *(or_dash(share, ".2f") for share in shares)]


def _cost_row(name: str, cost: dict) -> list[str]:
    return [
        name,
        or_dash(cost["attention"]),
        or_dash(cost["down_rate"]),
        str(cost["beam_size"]),
        str(cost["batch"]),
        cost["device"],
        cost["dtype"],
        str(cost["utterances"]),
        f"{cost['audio_s']:.1f}",
        str(cost["tokens"]),
        f"{cost['total_s']:.1f}",
        or_dash(cost["rtf"], ".3f"),
        or_dash(cost["utterances_per_s"], ".2f"),
        or_dash(cost["cache_bytes_per_position"], ".0f"),
        megabytes(cost["cache_bytes_peak"]),
        megabytes(cost["cache_bytes_allocated"]),
        megabytes(cost["peak_memory_bytes"]),
    ]


def _time_row(name: str, cost: dict) -> list[str]:
    keys = ("total_s", "encoder_s", "search_s", *SEARCH_PARTS)
    return [name, *(f"{cost[key]:.2f}" for key in keys)]


def _environments(directory: Path) -> str:
    commit = _git(directory, "%H") or "unknown (not a git checkout)"
    commit_date = _git(directory, "%ad") or "unknown"
    now = datetime.datetime.now().astimezone().strftime("%a %b %d %H:%M:%S %Z %Y")
    return "\n".join(
        [
            "## Environments",
            f"- date: `{now}`",
            f"- python version: `{platform.python_version()}`",
            f"- espnet version: `{_version('espnet')}`",
            f"- pytorch version: `{_version('torch')}`",
            f"- mtla_espnet version: `{mtla_espnet.__version__}`",
            f"- Git hash: `{commit}`",
            f"  - Commit date: `{commit_date}`",
        ]
    )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git(directory: Path, form: str) -> str | None:
    """Return something about the last commit of the checkout that holds a directory."""
    try:
        done = subprocess.run(
            ["git", "log", "-1", f"--format={form}"],
            cwd=directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
