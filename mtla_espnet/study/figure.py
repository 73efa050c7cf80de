"""The picture of a study: every run, the difference with its intervals, and the cache."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mtla_espnet.files import atomic_path
from mtla_espnet.study.results import StudyTable

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#777777"


def draw_study(tables: Sequence[StudyTable], baseline: str, margin: float, path: Path) -> None:
    """Draw three panels a table: quality, difference to the baseline, cache.

    Args:
        tables: at least one; those of the same set repeat the panel of the cache.
        baseline: the kind that differences are to.
        margin: shown as a band around zero.
        path: PNG, written as a whole.
    """
    height = sum(1.5 + 0.4 * len(table.kinds) for table in tables)
    figure = Figure(figsize=(13, height), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = [1.5 + 0.4 * len(table.kinds) for table in tables]
    axes = figure.subplots(
        len(tables), 3, squeeze=False, width_ratios=[3, 3, 2], height_ratios=ratios
    )
    for row, table in zip(axes, tables, strict=True):
        _draw_quality(row[0], table)
        _draw_differences(row[1], table, baseline, margin)
        _draw_cache(row[2], table)
        row[1].set_yticklabels([])
        row[2].set_yticklabels([])
        for ax in row:
            ax.grid(axis="x", color="#dddddd", linewidth=0.8)
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})


def _places(ax, table: StudyTable) -> range:
    places = range(len(table.kinds))
    ax.set_yticks(places, [each.kind for each in table.kinds])
    ax.set_ylim(len(table.kinds) - 0.4, -0.6)  # the first on top
    return places


def _draw_quality(ax, table: StudyTable) -> None:
    name = table.measure.heading or table.measure.name
    better = "lower" if table.measure.lower_is_better else "higher"
    ax.set_title(f"{table.test_set}: {name}, {better} is better", fontsize=10)
    ax.set_xlabel(f"{name} (points: seeds; bar: mean ± standard deviation)")
    for place, kind in zip(_places(ax, table), table.kinds, strict=True):
        values = kind.spread.values
        ax.plot(values, [place] * len(values), "o", color=_GREY, alpha=0.6, markersize=5)
        ax.errorbar(
            [kind.spread.mean], [place], xerr=[kind.spread.deviation or 0.0],
            fmt="D", color=_BLUE, capsize=4, markersize=7,
        )  # fmt: skip


def _draw_differences(ax, table: StudyTable, baseline: str, margin: float) -> None:
    ax.set_title(f"difference to {baseline}, 95 % intervals", fontsize=10)
    ax.set_xlabel(f"over items (blue) and seeds (orange); band: ± {margin:g}")
    ax.axvspan(-margin, margin, color=_GREEN, alpha=0.12, linewidth=0)
    ax.axvline(0, color="black", linewidth=0.8)
    for place, kind in zip(_places(ax, table), table.kinds, strict=True):
        compared = kind.comparison
        if compared is None:
            continue
        for interval, offset, colour in (
            (compared.over_items, -0.13, _BLUE),
            (compared.over_seeds, 0.13, _ORANGE),
        ):
            if interval is not None:
                ax.plot(interval, [place + offset] * 2, color=colour, linewidth=3)
                ax.plot([compared.difference], [place + offset], "o", color=colour, markersize=6)


def _draw_cache(ax, table: StudyTable) -> None:
    ax.set_title("key/value cache", fontsize=10)
    ax.set_xlabel("bytes a position, all layers")
    sizes = [kind.cost("cache_bytes_per_position") for kind in table.kinds]
    for place, size in zip(_places(ax, table), sizes, strict=True):
        if size is None:
            ax.text(0, place, " not measured", va="center", color=_GREY)
            continue
        ax.barh([place], [size], color=_BLUE, height=0.55)
        ax.annotate(f" {size:,.0f}", (size, place), va="center", fontsize=8)
    ax.set_xlim(0, 1.25 * max((size for size in sizes if size), default=1))
