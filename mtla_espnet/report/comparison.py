"""All experiments of a recipe side by side: quality, time and memory by attention kind."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

from mtla_espnet.files import UserError, if_writable, write_text
from mtla_espnet.report.configurations import configuration_labels
from mtla_espnet.report.examples import find_examples
from mtla_espnet.report.markdown import markdown_table, megabytes, or_dash
from mtla_espnet.report.page import Section, write_page
from mtla_espnet.report.plots import Panel, Point, plot_trade_offs
from mtla_espnet.report.rows import BASELINE, Row, csv_columns, gather, judged_by
from mtla_espnet.score.record import Measure

_MEGABYTES = "MB"
_BUSY = "*"  # stands behind what a busy CPU took
_CLOCK = ("decode_s", "rtf", "search_speedup", "utterances_per_s")

_COUNTS = (Measure("parameters", "parameters", ","), Measure("utterances", "Snt", ""))
_COSTS = (
    Measure("train_s", "train s", ".0f"),
    Measure("decode_s", "decode s", ".1f"),
    Measure("processor_s", "CPU s", ".1f"),
    Measure("rtf", "RTF", ".3f"),
    Measure("search_speedup", "speed-up"),
    Measure("cache_bytes_per_position", "KV B/pos", ".0f"),
    Measure("cache_bytes_peak", "KV peak MB", _MEGABYTES),
    Measure("cache_ratio", "KV ratio"),
    Measure("peak_memory_bytes", "peak memory MB", _MEGABYTES),
    Measure("mean_memory_bytes", "mean memory MB", _MEGABYTES),
)
_LATER = ("processor_s", "mean_memory_bytes")  # which earlier decodes lack
_DECODING = (
    Measure("beam_size", "beam", ""),
    Measure("batch", "batch", ""),
    Measure("device", "device", ""),
    Measure("dtype", "dtype", ""),
    Measure("utterances_per_s", "utt/s", ".1f"),
    Measure("encoder_s", "encoder s"),
    Measure("search_s", "search s"),
    Measure("search_decoder_s", "decoder s"),
    Measure("search_ctc_s", "CTC s"),
    Measure("search_bookkeeping_s", "bookkeeping s"),
    Measure("cache_bytes_allocated", "KV alloc MB", _MEGABYTES),
    Measure("memory_ratio", "memory ratio"),
)
_OF_ONE = ("CPU s", "RTF", "KV B/pos", "mean memory MB")
_OF_ALL = tuple(column for column in _COSTS if column.heading not in _OF_ONE)
_NOTE = (
    "`Snt` is the number of utterances. `decode s` is the wall time of encoder and search, `CPU s` "
    "what the processor worked in it, all threads together, `RTF` the wall time for each second of "
    "audio. `KV` is the key/value cache: bytes a position over all layers, and the most that it "
    "held. `speed-up` (in search time), `KV ratio` (of the peak) and `memory ratio` are against "
    f"{BASELINE} in the same table, where one was trained by the same configuration but for its "
    "attention, and decoded as many utterances in the same way; else a dash. `peak memory` is "
    "activations and cache, without the model; `mean memory` is that of each batch, averaged over "
    "utterances. The second table says where the time of the search "
    "goes: decoder, CTC prefix scores and bookkeeping; `KV alloc` are the buffers of the cache. "
    f"`{_BUSY}`: the CPU had other work or waited for files, and the time says little."
)


def write_comparison(recipe_dir: Path, expdir: str = "exp") -> str:
    """Write `comparison.md`, `comparison.csv`, `comparison.png` and `comparison.html` of a recipe.

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
    notes = dict.fromkeys(judged_by(group)[1] for group in groups.values())
    note = " ".join([*filter(None, notes), _NOTE])
    text = "\n\n".join(["# Comparison", note, *sections]) + "\n"
    panels = {name: _panels(group) for name, group in groups.items()}
    recipe = "/".join(Path(recipe_dir).resolve().parts[-2:])
    title = f"{recipe}: quality and cost by attention kind"
    with if_writable():
        write_text(directory / "comparison.md", text)
        write_text(directory / "comparison.csv", _csv(rows))
        titled = [
            dataclasses.replace(panel, title="" if number else name)
            for name, each in panels.items()
            for number, panel in enumerate(each)
        ]
        plot_trade_offs(titled, directory / "comparison.png", title)
        sections = [
            _section(directory, name, group, panels[name]) for name, group in groups.items()
        ]
        labels = configuration_labels([row.configuration for row in rows])
        trainings = {
            directory / row["experiment"]: (row.kind, label)
            for row, label in zip(rows, labels, strict=True)
        }
        write_page(directory / "comparison.html", title, note, sections, trainings)
    return "\n\n".join(f"{name}\n{table}" for name, table in tables.items())


def write_comparisons(recipe_dirs: Sequence[Path], expdir: str = "exp") -> str:
    """Write the comparisons of several recipes.

    Args:
        recipe_dirs: each holds a directory of experiments; at least one.
        expdir: name of that directory.

    Returns:
        The tables as text; of more than one recipe also a table over all, last.

    Raises:
        UserError: a recipe has no scored experiment, or a file of one cannot be read.
    """
    tables = [write_comparison(directory, expdir) for directory in recipe_dirs]
    if len(tables) == 1:
        return tables[0]
    cells = []
    for directory in recipe_dirs:
        rows = gather(Path(directory) / expdir)
        measures, _ = judged_by(rows)
        recipe = "/".join(Path(directory).resolve().parts[-2:])
        for row in rows:
            name = f"{recipe} {row['test_set']} {row.kind}"
            quality = [measures[0].heading, _cell(row, measures[0])] if measures else ["-", "-"]
            cells.append([name, *quality, *(_cell(row, column) for column in _OF_ALL)])
    headings = ["recipe, set and model", "measure", "value", *(each.heading for each in _OF_ALL)]
    return "\n\n".join([*tables, f"All recipes\n{markdown_table(headings, cells, aligned=True)}"])


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each table by its name, a search and a set.

    What nothing searched for, such as a text that is always the same, is in all tables of its
    set, last.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["inference_tag"]:
            groups.setdefault(f"{row['inference_tag']}/{row['test_set']}", []).append(row)
    for row in rows:
        if not row["inference_tag"]:
            places = [group for group in groups.values() if group[0]["test_set"] == row["test_set"]]
            for group in places or [groups.setdefault(row["test_set"], [])]:
                group.append(row)
    return groups


def _labels(rows: list[Row]) -> list[str]:
    """Name the rows of a group by kind, and by experiment too where kinds repeat."""
    kinds = [row.kind for row in rows]
    return [
        kind if kinds.count(kind) == 1 else f"{kind} ({row['experiment']})"
        for kind, row in zip(kinds, rows, strict=True)
    ]


def _cell(row: Row, column: Measure) -> str:
    value = row[column.name]
    if column.form == _MEGABYTES:
        return megabytes(value)
    is_busy = row["speedup_is_busy"] if column.name == "search_speedup" else row.is_busy
    mark = _BUSY if is_busy and value is not None and column.name in _CLOCK else ""
    return or_dash(value, column.form) + mark


def _table(rows: list[Row]) -> str:
    """Write a group as a Markdown table, and below it what a reader must know of its rows."""
    return "\n\n".join([_rows_as_table(rows, _columns(rows)), *_warnings(rows)])


def _columns(rows: list[Row]) -> list[Measure]:
    measures, _ = judged_by(rows)
    columns = [*_COUNTS, *measures, *_COSTS]
    missing = {name for name in _LATER if all(row[name] is None for row in rows)}
    columns = [column for column in columns if column.name not in missing]
    return columns


def _warnings(rows: list[Row]) -> list[str]:
    return [
        f"{label}: {warning}"
        for label, row in zip(_labels(rows), rows, strict=True)
        for warning in row.warnings
    ]


def _decode_table(rows: list[Row]) -> str:
    """Write how a group was decoded, and where the time went."""
    return _rows_as_table(rows, _DECODING)


def _rows_as_table(rows: list[Row], columns: Sequence[Measure]) -> str:
    headings = ["model", *(each.heading for each in columns)]
    return markdown_table(headings, _cells(rows, columns), aligned=True)


def _cells(rows: list[Row], columns: Sequence[Measure]) -> list[list[str]]:
    return [
        [label, *(_cell(row, column) for column in columns)]
        for label, row in zip(_labels(rows), rows, strict=True)
    ]


def _csv(rows: list[Row]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = csv_columns()
    writer.writerow(names)
    writer.writerows([row[name] for name in names] for row in rows)
    return stream.getvalue()


def _panels(rows: list[Row]) -> list[Panel]:
    """Return the plots of a group: quality against time, cache and memory."""
    measures, _ = judged_by(rows)
    if not measures:
        return []
    quality = measures[0]
    labels = configuration_labels([row.configuration for row in rows])
    panels = []
    for x_label, name, unit in (
        ("decoding time (s)", "decode_s", 1),
        ("KV cache, peak (MB)", "cache_bytes_peak", 1e6),
        ("memory above the model, peak (MB)", "peak_memory_bytes", 1e6),
    ):
        models: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for row, label in zip(rows, labels, strict=True):
            x, y = row[name], row[quality.name]
            if x is not None and y is not None:
                # without a configuration nothing says that only the seed differs
                own = label if row.configuration else row["experiment"]
                models.setdefault((row.kind, own), []).append((x / unit, y))
        points = [Point(*of, *zip(*values, strict=True)) for of, values in models.items()]
        panels.append(Panel("", x_label, quality.heading, quality.lower_is_better, points))
    return panels


def _section(directory: Path, name: str, rows: list[Row], panels: list[Panel]) -> Section:
    """Return what the page shows of a group."""
    measures, _ = judged_by(rows)
    columns = [*_columns(rows), *_DECODING]
    decoded = [row for row in rows if row["inference_tag"]] if measures else []
    directories = [
        directory / row["experiment"] / row["inference_tag"] / row["test_set"] for row in decoded
    ]
    examples = find_examples(directories, measures[0].name) if len(decoded) > 1 else []
    return Section(
        title=name,
        panels=panels,
        columns=["model", *(each.heading for each in columns)],
        rows=_cells(rows, columns),
        warnings=_warnings(rows),
        examples=examples,
        models=_labels(decoded),
        measure=measures[0].heading if measures else "",
    )
