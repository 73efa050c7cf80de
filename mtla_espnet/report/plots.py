"""Plots of quality against cost."""

import dataclasses
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtla_espnet.files import atomic_path

COLUMNS = 3
_TITLE_CHARACTERS = 60  # as wide as a panel; names of decodes are longer

# A colour and a shape a kind, in the order in which kinds come. The colours are those of Okabe and
# Ito, which colour-blind readers can tell apart.
_STYLES = (
    ("#0072B2", "o"),
    ("#D55E00", "h"),
    ("#009E73", "D"),
    ("#E69F00", "p"),
    ("#56B4E9", "s"),
    ("#CC79A7", "^"),
    ("#000000", "v"),
    ("#555555", "X"),
)


@dataclasses.dataclass(frozen=True)
class Panel:
    """One plot: a point a model.

    Args:
        title: above the plot.
        x_label: what is on the horizontal axis, with its unit.
        y_label: what is on the vertical axis, with its unit.
        kinds: of attention, for colour and shape; "other" for none.
        marks: a character or two inside each point, or an empty string.
        x: values; None leaves a point out.
        y: values; None leaves a point out.
    """

    title: str
    x_label: str
    y_label: str
    kinds: Sequence[str]
    marks: Sequence[str]
    x: Sequence[float | None]
    y: Sequence[float | None]


def plot_trade_offs(panels: Sequence[Panel], path: Path, note: str = "") -> None:
    """Draw panels, `COLUMNS` a row, into a PNG file. All axes begin at 0.

    Args:
        panels: at least one.
        path: the file, written as a whole.
        note: title of the legend.
    """
    n_rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(4.4 * COLUMNS, 3.6 * n_rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, COLUMNS, squeeze=False).flatten()
    shown = dict.fromkeys(kind for panel in panels for kind in panel.kinds)
    styles = dict(zip(shown, itertools.cycle(_STYLES), strict=False))
    for ax, panel in zip(axes, panels, strict=False):
        _draw(ax, panel, styles)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    handles = [
        Line2D([], [], color=colour, marker=shape, markersize=10, linestyle="none", label=kind)
        for kind, (colour, shape) in styles.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        title=note,
        title_fontsize=9,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})


def _draw(ax, panel: Panel, styles: Mapping[str, tuple[str, str]]) -> None:
    ax.set_title(textwrap.fill(panel.title, _TITLE_CHARACTERS), fontsize=9)
    ax.set_xlabel(panel.x_label)
    ax.set_ylabel(panel.y_label)
    ax.grid(color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    points = [
        point
        for point in zip(panel.x, panel.y, panel.kinds, panel.marks, strict=True)
        if point[0] is not None and point[1] is not None
    ]
    if not points:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color="#555555")
        return
    ax.set_xlim(0, 1.12 * max(point[0] for point in points) or 1)
    ax.set_ylim(0, 1.12 * max(point[1] for point in points) or 1)
    for x, y, kind, mark in points:
        colour, shape = styles[kind]
        ax.plot([x], [y], marker=shape, color=colour, markersize=13, linestyle="none")
        ax.annotate(mark, (x, y), ha="center", va="center", color="white", fontsize=8)
