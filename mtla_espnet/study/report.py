"""Writes the results of a study: `study.md`, `study.csv`, `study.png`."""

import csv
import io
from collections.abc import Sequence

from mtla_espnet.files import if_writable, write_text
from mtla_espnet.report.markdown import markdown_table, megabytes, or_dash
from mtla_espnet.study.figure import draw_study
from mtla_espnet.study.plan import Study
from mtla_espnet.study.results import KindResult, StudyTable, read_study
from mtla_espnet.study.statistics import Comparison, Interval

_COSTS = (
    ("parameters", "parameters"),
    ("train_s", "train s"),
    ("decode_s", "decode s"),
    ("search_s", "search s"),
    ("cache_bytes_per_position", "KV B/pos"),
    ("cache_bytes_peak", "KV peak MB"),
    ("peak_memory_bytes", "peak memory MB"),
)


def write_report(study: Study, margin: float) -> str:
    """Write the tables and the plot of a study.

    Args:
        study: what was run, in whole or in part.
        margin: within which values count as equal, in the unit of each measure.

    Returns:
        The tables as text for a terminal.

    Raises:
        UserError: nothing is scored, runs have other items, or a file cannot be read.
    """
    tables, missing = read_study(study, margin)
    sections = [_section(table, study.baseline) for table in tables]
    lacking = f"Not scored: {', '.join(missing)}.\n\n" if missing else ""
    text = "\n\n".join(sections)
    with if_writable():
        notes = f"# Study\n\n{_note(study, margin)}\n\n{lacking}"
        write_text(study.directory / "study.md", f"{notes}{text}\n")
        write_text(study.directory / "study.csv", _csv(tables))
        draw_study(tables, study.baseline, margin, study.directory / "study.png")
    return lacking + text


def _note(study: Study, margin: float) -> str:
    return (
        f"Kinds: {', '.join(study.kinds)}; {study.seeds} seeds each; all are compared with "
        f"`{study.baseline}`. `items` is the 95 % interval of the difference over test items "
        "(paired bootstrap; the same items for both, the mean over seeds), `seeds` that over seeds "
        "(Welch's t). A difference is shown where both exclude zero. Kinds are equal within "
        f"{margin:g} (in the unit of the measure) where both 90 % intervals lie inside it (two "
        "one-sided tests at 5 %). Where neither is shown, nothing is known: the study is too small "
        "for it. Costs are means over seeds."
    )


def _section(table: StudyTable, baseline: str) -> str:
    name = "/".join(filter(None, (table.inference_tag, table.test_set)))
    better = "lower" if table.measure.lower_is_better else "higher"
    title = f"## {name}: {_heading(table)} ({table.items} items; {better} is better)"
    columns = [
        "kind", "n", _heading(table), f"less {baseline}", "items", "p", "seeds", "p", "verdict"
    ]  # fmt: skip
    quality = markdown_table(columns, [_quality(each) for each in table.kinds], aligned=True)
    heads = ["kind", *(heading for _, heading in _COSTS)]
    costs = markdown_table(heads, [_cost(each) for each in table.kinds], aligned=True)
    return f"{title}\n\n{quality}\n\n{costs}"


def _heading(table: StudyTable) -> str:
    return table.measure.heading or table.measure.name


def _quality(result: KindResult) -> list[str]:
    spread = result.spread
    value = f"{spread.mean:.2f}"
    if spread.deviation is not None:
        value += f" ± {spread.deviation:.2f}"
    cells = [result.kind, str(len(spread.values)), value]
    compared = result.comparison
    if compared is None:
        return [*cells, *["-"] * 6]
    return [
        *cells,
        f"{compared.difference:+.2f}",
        _interval(compared.over_items),
        f"{compared.p_items:.3f}",
        _interval(compared.over_seeds),
        or_dash(compared.p_seeds, ".3f"),
        compared.verdict,
    ]


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"[{interval[0]:+.2f}, {interval[1]:+.2f}]"


def _cost(result: KindResult) -> list[str]:
    cells = [result.kind]
    for name, heading in _COSTS:
        value = result.cost(name)
        cells.append(megabytes(value) if heading.endswith("MB") else or_dash(value, ",.0f"))
    return cells


def _csv(tables: Sequence[StudyTable]) -> str:
    """Write a line a set, measure, kind and seed; the comparison is repeated for each seed."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    compared = [
        "difference", "items_low", "items_high", "items_p", "seeds_low", "seeds_high", "seeds_p",
        "margin", "equal", "verdict",
    ]  # fmt: skip
    costs = [name for name, _ in _COSTS]
    head = ["inference_tag", "test_set", "measure", "items", "kind", "experiment", "value"]
    writer.writerow([*head, *compared, *costs])
    for table in tables:
        for result in table.kinds:
            cells = _compared(result.comparison)
            for value, row in zip(result.spread.values, result.rows, strict=True):
                identity = [table.inference_tag, table.test_set, table.measure.name, table.items]
                own = [result.kind, row["experiment"], f"{value:.6g}"]
                writer.writerow([*identity, *own, *cells, *(row[name] for name in costs)])
    return stream.getvalue()


def _compared(compared: Comparison | None) -> list:
    if compared is None:
        return [None] * 10
    numbers = [
        compared.difference, *compared.over_items, compared.p_items,
        *(compared.over_seeds or (None, None)), compared.p_seeds, compared.margin,
    ]  # fmt: skip
    rounded = [None if number is None else f"{number:.6g}" for number in numbers]
    return [*rounded, compared.is_equal, compared.verdict]
