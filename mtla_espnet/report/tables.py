"""RESULTS.md of an experiment: what each decode reached, and what it cost."""

import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import mtla_espnet
from mtla_espnet.files import UserError, write_text
from mtla_espnet.report.decodes import find_decodes
from mtla_espnet.report.markdown import markdown_table, megabytes, or_dash
from mtla_espnet.score.efficiency import SEARCH_PARTS
from mtla_espnet.score.record import Result
from mtla_espnet.score.registry import SCORES

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
_PROCESSOR_NOTE = " `CPU s` is what the processor worked in it, all threads together."


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
    warnings = [f"- {each.name}: {warning}" for each in decodes for warning in each.warnings]
    parts += ["\n".join(warnings)] if warnings else []
    for score in SCORES:
        parts += _sections(
            [(each.name, each.results[score]) for each in decodes if score in each.results]
        )
    costs = {decode.name: decode.efficiency for decode in decodes if decode.efficiency}
    if costs:
        rows = [_cost_row(name, cost) for name, cost in costs.items()]
        columns = list(_COST_COLUMNS)
        if any(cost["mean_memory_bytes"] is not None for cost in costs.values()):
            columns.append("mean memory MB")  # of each batch, averaged over utterances
            for row, cost in zip(rows, costs.values(), strict=True):
                row.append(megabytes(cost["mean_memory_bytes"]))
        parts += ["### Efficiency", markdown_table(columns, rows), *_times(costs)]
    text = "\n\n".join(parts) + "\n"
    write_text(exp_dir / "RESULTS.md", text)
    return text


def _sections(results: Sequence[tuple[str, Result]]) -> list[str]:
    """Write the tables of a score, each with the rows of all sets, by their titles."""
    titles: dict[str, tuple[Sequence[str], list[list[str]]]] = {}
    for name, result in results:
        for table in result.tables:
            _, rows = titles.setdefault(table.title, (table.columns, []))
            rows += [[name + first, *others] for first, *others in table.rows]
    parts = []
    for title, (columns, rows) in titles.items():
        parts += [title, markdown_table(["dataset", *columns], rows)]
    return parts


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
        f"{cost['audio_s']:.1f}" if cost["audio_s"] else "-",
        str(cost["tokens"]),
        f"{cost['total_s']:.1f}",
        or_dash(cost["rtf"], ".3f"),
        or_dash(cost["utterances_per_s"], ".2f"),
        or_dash(cost["cache_bytes_per_position"], ".0f"),
        megabytes(cost["cache_bytes_peak"]),
        megabytes(cost["cache_bytes_allocated"]),
        megabytes(cost["peak_memory_bytes"]),
    ]


def _times(costs: Mapping[str, Mapping]) -> list[str]:
    columns, keys = [*_TIME_COLUMNS], ["total_s", "encoder_s", "search_s", *SEARCH_PARTS]
    note = _TIME_NOTE
    if any(cost["processor_s"] is not None for cost in costs.values()):  # not of earlier decodes
        columns.insert(2, "CPU s")
        keys.insert(1, "processor_s")
        note += _PROCESSOR_NOTE
    rows = [[name, *(or_dash(cost[key], ".2f") for key in keys)] for name, cost in costs.items()]
    return [note, markdown_table(columns, rows)]


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
