"""RESULTS.md of an experiment: what each decode reached, and what it cost."""

import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import mtla_espnet
from mtla_espnet.files import UserError, write_text
from mtla_espnet.report.decodes import RATES, Decode, find_decodes
from mtla_espnet.score.bleu import METRICS
from mtla_espnet.score.efficiency import SEARCH_PARTS
from mtla_espnet.score.intent import Share
from mtla_espnet.score.result import Totals

_RATE_COLUMNS = ("dataset", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")
_COST_COLUMNS = (
    "dataset", "attention", "s", "beam", "batch", "device", "dtype", "Snt", "audio s", "tokens",
    "decode s", "RTF", "utt/s", "KV B/pos", "KV peak MB", "KV alloc MB", "peak memory MB",
)  # fmt: skip
_TIME_COLUMNS = (
    "dataset", "decode s", "encoder s", "search s", "decoder s", "CTC s", "bookkeeping s",
)  # fmt: skip
_BLEU_COLUMNS = ("dataset", "score", "verbose_score")
_METRIC_COLUMNS = ("dataset", *METRICS, "signature of BLEU")
_INTENT_COLUMNS = ("dataset", "Snt", "Intent Classification (%)")
_PART_COLUMNS = ("dataset", "part", "name", "Snt", "correct (%)")
_SUM_COLUMNS = ("dataset", "ROUGE-1", "ROUGE-2", "ROUGE-L", "METEOR", "BERTScore")
_LEAD = "first sentence of the document"
_CASES = {"tc": "true case", "lc": "lower case, no punctuation"}
_TIME_NOTE = (
    "Time of a decode: reading audio, encoder and search; of the search the decoder (with a "
    "language model), CTC prefix scores and bookkeeping."
)


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
        rates = [(decode.name, decode.rates.get(rate)) for decode in decodes]
        parts += _rate_section(rate.upper(), rates)
    words = [(decode.name, decode.words) for decode in decodes]
    parts += _rate_section("WER of the words after the intent", words)
    parts += _translation_sections(decodes) + _intent_sections(decodes) + _sum_section(decodes)
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


def _rate_section(heading: str, totals: Sequence[tuple[str, Totals | None]]) -> list[str]:
    rows = [_rate_row(name, each) for name, each in totals if each is not None]
    return [f"### {heading}", markdown_table(_RATE_COLUMNS, rows)] if rows else []


def _translation_sections(decodes: Sequence[Decode]) -> list[str]:
    scored = [decode for decode in decodes if decode.translation]
    if not scored:
        return []
    bleu, metrics = [], []
    for decode in scored:
        for case, scores in decode.translation.items():
            name = f"{decode.name} ({_CASES[case]})"
            score = scores["BLEU"]
            bleu.append([name, f"{score['score']:.2f}", score["verbose_score"]])
            numbers = [or_dash(scores.get(each, {}).get("score"), ".2f") for each in METRICS]
            metrics.append([name, *numbers, f"`{score.get('signature', '-')}`"])
    return [
        "### BLEU",
        markdown_table(_BLEU_COLUMNS, bleu),
        "### BLEU, chrF and TER",
        # a bar in a signature would end its cell
        markdown_table(
            _METRIC_COLUMNS, [[cell.replace("|", "\\|") for cell in row] for row in metrics]
        ),
    ]


def _intent_sections(decodes: Sequence[Decode]) -> list[str]:
    scored = [(decode.name, decode.intents) for decode in decodes if decode.intents is not None]
    if not scored:
        return []
    rows, parts = [], []
    for name, scores in scored:
        rows.append([name, str(scores.intent.utterances), _percent(scores.intent)])
        for part, whole, groups in (
            ("scenario", scores.scenario, scores.by_scenario),
            ("action", scores.action, scores.by_action),
        ):
            for group, share in {"all": whole, **groups}.items():
                parts.append([name, part, group, str(share.utterances), _percent(share)])
    return [
        "### Intent",
        markdown_table(_INTENT_COLUMNS, rows),
        "Of all utterances, those whose scenario or action is right; of a scenario's or an "
        "action's, those whose whole intent is.",
        markdown_table(_PART_COLUMNS, parts),
    ]


def _sum_section(decodes: Sequence[Decode]) -> list[str]:
    rows = []
    for decode in decodes:
        if decode.summaries is None:
            continue
        of_paper = " (the paper's normalisation)" if decode.summaries.is_of_paper else ""
        for what, rouge in (("", decode.summaries.model), (_LEAD, decode.summaries.lead)):
            if rouge is not None:
                name = f"{decode.name}{f' {what}' if what else ''}{of_paper}"
                numbers = (rouge.rouge_1, rouge.rouge_2, rouge.rouge_l)
                rows.append([name, *(f"{number:.2f}" for number in numbers), "-", "-"])
    return ["### ROUGE", markdown_table(_SUM_COLUMNS, rows)] if rows else []


def _percent(share: Share) -> str:
    return f"{100 * share.accuracy:.2f}"


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
