"""All experiments of a recipe side by side: quality, time and memory by attention kind."""

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path

from mtla_espnet.files import UserError, if_writable, read_json, write_text
from mtla_espnet.report.decodes import Decode, find_decodes
from mtla_espnet.report.measures import NOTES, judged_by
from mtla_espnet.report.plots import Panel, plot_trade_offs
from mtla_espnet.report.tables import megabytes, or_dash
from mtla_espnet.score.efficiency import KEYS

BASELINE = "mha"

_COLUMNS = (
    "train s", "decode s", "RTF", "speed-up", "KV B/pos", "KV peak MB", "KV ratio",
    "peak memory MB",
)  # fmt: skip
_DECODE_COLUMNS = (
    "model", "beam", "batch", "device", "dtype", "utt/s", "encoder s", "search s", "decoder s",
    "CTC s", "bookkeeping s", "KV alloc MB", "memory ratio",
)  # fmt: skip
_ALL_COLUMNS = (
    "recipe, set and model", "measure", "value", "train s", "decode s", "speed-up", "KV peak MB",
    "KV ratio", "peak memory MB",
)  # fmt: skip
_NOTE = (
    "`decode s` is the wall time of encoder and search, `RTF` that time for each second of audio. "
    "`KV` is the key/value cache: bytes a position over all layers, and the most that it held. "
    "`speed-up` (in search time), `KV ratio` (of the peak) and `memory ratio` are against "
    f"{BASELINE} in the same table. `peak memory` is activations and cache, without the model. "
    "The second table says where the time of the search goes: decoder, CTC prefix scores and "
    "bookkeeping; `KV alloc` are the buffers of the cache."
)


@dataclasses.dataclass(frozen=True)
class Row:
    """An experiment on a test set; a value is None where it was not measured.

    Sizes are in bytes, times in seconds; `wer`, `cer` and `words_wer` (after the intent) are errors
    for each reference token, accuracies are shares of the utterances; BLEU, chrF2, TER
    (`edit_rate`) and ROUGE are times 100. `search_speedup`, `cache_ratio` and `memory_ratio`
    compare with the row of `BASELINE` of the same inference tag, test set and device, where
    there are several with that of the most similar name.
    These names are the columns of `comparison.csv`.
    """

    experiment: str
    inference_tag: str
    test_set: str
    attention: str | None
    down_rate: int | None
    parameters: int | None
    wer: float | None
    cer: float | None
    bleu: float | None
    chrf2: float | None
    edit_rate: float | None
    bleu_lc: float | None
    intent_accuracy: float | None
    scenario_accuracy: float | None
    action_accuracy: float | None
    words_wer: float | None
    rouge_1: float | None
    rouge_2: float | None
    rouge_l: float | None
    lead_rouge_l: float | None
    train_s: float | None
    decode_s: float | None
    encoder_s: float | None
    search_s: float | None
    search_decoder_s: float | None
    search_ctc_s: float | None
    search_bookkeeping_s: float | None
    rtf: float | None
    utterances: int | None
    utterances_per_s: float | None
    audio_s: float | None
    tokens: int | None
    cache_bytes_per_position: float | None
    cache_bytes_peak: int | None
    cache_bytes_prefix_peak: int | None
    cache_bytes_allocated: int | None
    peak_memory_bytes: int | None
    device: str | None
    dtype: str | None
    prefix_cache: str | None
    beam_size: int | None
    batch: int | None
    search_speedup: float | None = None
    cache_ratio: float | None = None
    memory_ratio: float | None = None

    @property
    def kind(self) -> str:
        """The attention kind with its down-sampling, or the experiment where it has none."""
        if self.attention is None:
            return self.experiment
        return self.attention + (f" s={self.down_rate}" if self.attention == "mtla" else "")


# Columns that `efficiency.json` has by the same names.
_COSTS = {field.name for field in dataclasses.fields(Row)} & set(KEYS)


def write_comparison(recipe_dir: Path, expdir: str = "exp") -> str:
    """Write `comparison.md`, `comparison.csv` and `comparison.png` of a recipe.

    Args:
        recipe_dir: holds the directory of experiments.
        expdir: name of that directory.

    Returns:
        The tables as text for a terminal.

    Raises:
        UserError: there is no scored experiment, or a file of one cannot be read.
    """
    directory = Path(recipe_dir) / expdir
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory (run the recipe first)")
    rows = gather(directory)
    if not rows:
        raise UserError(f"{directory}: no experiment is scored there (run stages 12 and 13)")
    groups = _groups(rows)
    tables = {name: _table(group) for name, group in groups.items()}
    sections = [
        f"## {name}\n\n{table}\n\n{_decode_table(groups[name])}" for name, table in tables.items()
    ]
    kinds = dict.fromkeys(judged_by(group)[0].field for group in groups.values())
    note = " ".join([*(NOTES[kind] for kind in kinds), _NOTE])
    text = "\n\n".join(["# Comparison", note, *sections]) + "\n"
    panels = [panel for name, group in groups.items() for panel in _panels(name, group)]
    with if_writable():
        write_text(directory / "comparison.md", text)
        write_text(directory / "comparison.csv", _csv(rows))
        plot_trade_offs(panels, directory / "comparison.png", "a number in a point is s of mtla")
    return "\n\n".join(f"{name}\n{table}" for name, table in tables.items())


def write_comparisons(recipe_dirs: Sequence[Path], expdir: str = "exp") -> str:
    """Write the comparisons of several recipes.

    Args:
        recipe_dirs: see `write_comparison`, at least one.
        expdir: likewise.

    Returns:
        The tables as text; of more than one recipe also a table over all, last.

    Raises:
        UserError: as `write_comparison`.
    """
    tables = [write_comparison(directory, expdir) for directory in recipe_dirs]
    if len(tables) == 1:
        return tables[0]
    cells = []
    for directory in recipe_dirs:
        rows = gather(Path(directory) / expdir)
        measure = judged_by(rows)[0]
        recipe = "/".join(Path(directory).resolve().parts[-2:])
        for row in rows:
            cells.append(
                [
                    f"{recipe} {row.test_set} {row.kind}",
                    measure.heading,
                    or_dash(getattr(row, measure.field), measure.form),
                    or_dash(row.train_s, ".0f"),
                    or_dash(row.decode_s, ".1f"),
                    or_dash(row.search_speedup, ".2f"),
                    megabytes(row.cache_bytes_peak),
                    or_dash(row.cache_ratio, ".2f"),
                    megabytes(row.peak_memory_bytes),
                ]
            )
    return "\n\n".join([*tables, f"All recipes\n{aligned_table(_ALL_COLUMNS, cells)}"])


def gather(exp_dir: Path) -> list[Row]:
    """Read one row an experiment and decoded set.

    Returns:
        Rows by set; inside, the larger cache of a position comes first.

    Raises:
        UserError: a file of an experiment cannot be read.
    """
    rows = []
    for experiment in sorted(path for path in exp_dir.iterdir() if path.is_dir()):
        training_json = experiment / "training.json"
        decodes = find_decodes(experiment)
        training = read_json(training_json) if decodes and training_json.exists() else {}
        rows += [_row(experiment.name, training, decode) for decode in decodes]
    rows = [_with_ratios(row, _baseline(row, rows)) for row in rows]
    return sorted(
        rows,
        key=lambda row: (
            row.inference_tag,
            row.test_set,
            -(row.cache_bytes_per_position or 0),
            row.experiment,
        ),
    )


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each table by its name, a search and a set.

    What nothing searched for, such as a text that is always the same, is in all tables of its
    set, last.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.inference_tag:
            groups.setdefault(f"{row.inference_tag}/{row.test_set}", []).append(row)
    for row in rows:
        if not row.inference_tag:
            places = [group for group in groups.values() if group[0].test_set == row.test_set]
            for group in places or [groups.setdefault(row.test_set, [])]:
                group.append(row)
    return groups


def _row(experiment: str, training: dict, decode: Decode) -> Row:
    cost = decode.efficiency or {}
    rates = {rate: totals.error_rate for rate, totals in decode.rates.items()}
    return Row(
        experiment=experiment,
        inference_tag=decode.inference_tag,
        test_set=decode.test_set,
        parameters=training.get("parameters"),
        wer=rates.get("wer"),
        cer=rates.get("cer"),
        **_task_scores(decode),
        train_s=training.get("train_s"),
        decode_s=cost.get("total_s"),
        **{name: cost.get(name) for name in _COSTS},
    )


def _task_scores(decode: Decode) -> dict[str, float | None]:
    """Return what translations, intents and summaries are scored by."""
    case, lower = decode.translation.get("tc", {}), decode.translation.get("lc", {})
    intents, summaries = decode.intents, decode.summaries
    return {
        "bleu": case.get("BLEU", {}).get("score"),
        "chrf2": case.get("chrF2", {}).get("score"),
        "edit_rate": case.get("TER", {}).get("score"),
        "bleu_lc": lower.get("BLEU", {}).get("score"),
        "intent_accuracy": intents and intents.intent.accuracy,
        "scenario_accuracy": intents and intents.scenario.accuracy,
        "action_accuracy": intents and intents.action.accuracy,
        "words_wer": decode.words and decode.words.error_rate,
        "rouge_1": summaries and summaries.model.rouge_1,
        "rouge_2": summaries and summaries.model.rouge_2,
        "rouge_l": summaries and summaries.model.rouge_l,
        "lead_rouge_l": summaries and summaries.lead and summaries.lead.rouge_l,
    }


def _baseline(row: Row, rows: Sequence[Row]) -> Row | None:
    """Return the row to compare with: of several, that whose experiment's name begins most alike.

    Names begin with the training configuration: a large model is compared with a large one.
    """
    candidates = [
        other
        for other in rows
        if other.attention == BASELINE
        and (other.inference_tag, other.test_set, other.device)
        == (row.inference_tag, row.test_set, row.device)
    ]
    return max(
        candidates,
        key=lambda other: len(os.path.commonprefix([row.experiment, other.experiment])),
        default=None,
    )


def _with_ratios(row: Row, baseline: Row | None) -> Row:
    if baseline is None:
        return row
    return dataclasses.replace(
        row,
        search_speedup=_ratio(baseline.search_s, row.search_s),
        cache_ratio=_ratio(row.cache_bytes_peak, baseline.cache_bytes_peak),
        memory_ratio=_ratio(row.peak_memory_bytes, baseline.peak_memory_bytes),
    )


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or not denominator else numerator / denominator


def _labels(rows: list[Row]) -> list[str]:
    """Name the rows of a group by kind, and by experiment too where kinds repeat."""
    kinds = [row.kind for row in rows]
    return [
        kind if kinds.count(kind) == 1 else f"{kind} ({row.experiment})"
        for kind, row in zip(kinds, rows, strict=True)
    ]


def _table(rows: list[Row]) -> str:
    """Write a group as a Markdown table."""
    measures = judged_by(rows)
    cells = [
        [
            label,
            or_dash(row.parameters, ","),
            *(or_dash(getattr(row, each.field), each.form) for each in measures),
            or_dash(row.train_s, ".0f"),
            or_dash(row.decode_s, ".1f"),
            or_dash(row.rtf, ".3f"),
            or_dash(row.search_speedup, ".2f"),
            or_dash(row.cache_bytes_per_position, ".0f"),
            megabytes(row.cache_bytes_peak),
            or_dash(row.cache_ratio, ".2f"),
            megabytes(row.peak_memory_bytes),
        ]
        for label, row in zip(_labels(rows), rows, strict=True)
    ]
    headings = ("model", "parameters", *(each.heading for each in measures), *_COLUMNS)
    return aligned_table(headings, cells)


def _decode_table(rows: list[Row]) -> str:
    """Write how a group was decoded, and where the time went."""
    cells = [
        [
            label,
            or_dash(row.beam_size),
            or_dash(row.batch),
            or_dash(row.device),
            or_dash(row.dtype),
            or_dash(row.utterances_per_s, ".1f"),
            or_dash(row.encoder_s, ".2f"),
            or_dash(row.search_s, ".2f"),
            or_dash(row.search_decoder_s, ".2f"),
            or_dash(row.search_ctc_s, ".2f"),
            or_dash(row.search_bookkeeping_s, ".2f"),
            megabytes(row.cache_bytes_allocated),
            or_dash(row.memory_ratio, ".2f"),
        ]
        for label, row in zip(_labels(rows), rows, strict=True)
    ]
    return aligned_table(_DECODE_COLUMNS, cells)


def aligned_table(columns: Sequence[str], cells: list[list[str]]) -> str:
    """Write a Markdown table whose columns also line up as plain text."""
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]

    def line(row: list[str]) -> str:
        name, *numbers = zip(row, widths, strict=True)
        return f"| {name[0]:<{name[1]}} | {' | '.join(f'{cell:>{w}}' for cell, w in numbers)} |"

    rule = f"|:{'-' * widths[0]}-|{'|'.join(f'-{"-" * width}:' for width in widths[1:])}|"
    return "\n".join([line(list(columns)), rule, *map(line, cells)])


def _csv(rows: list[Row]) -> str:
    stream = io.StringIO()
    names = [field.name for field in dataclasses.fields(Row)]
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    return stream.getvalue()


def _panels(group_name: str, rows: list[Row]) -> list[Panel]:
    """Return the plots of a group: quality against time, cache and memory."""
    measures = (
        ("decoding time (s)", [row.decode_s for row in rows]),
        (
            "KV cache, peak (MB)",
            [row.cache_bytes_peak and row.cache_bytes_peak / 1e6 for row in rows],
        ),
        (
            "memory above the model, peak (MB)",
            [row.peak_memory_bytes and row.peak_memory_bytes / 1e6 for row in rows],
        ),
    )
    kinds = [row.attention or "other" for row in rows]
    marks = [str(row.down_rate) if row.attention == "mtla" else "" for row in rows]
    measure = judged_by(rows)[0]
    values_of = [getattr(row, measure.field) for row in rows]
    quality = [None if value is None else measure.scale * value for value in values_of]
    return [
        Panel(group_name, label, measure.axis, kinds, marks, values, quality)
        for label, values in measures
    ]
