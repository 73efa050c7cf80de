"""Plots of quality against cost."""

import dataclasses
import itertools
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtla_espnet.files import atomic_path

COLUMNS = 3
_TITLE_CHARACTERS = 52  # as wide as a panel; names of decodes are longer

# The colours of Okabe and Ito, which colour-blind readers can tell apart, in the order in which
# kinds come; a shape for each training configuration.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000", "#888888"
)  # fmt: skip
_SHAPES = "osD^vPX*"
_GREY = "#999999"


@dataclasses.dataclass(frozen=True)
class Point:
    """A model in a plot; models that differ in their seed alone are one.

    Args:
        kind: of attention with its down-sampling, which colours it; "other" for none.
        configuration: what else was trained, which shapes it; empty: all are the same.
        x: cost of each seed.
        y: quality of each seed.
    """

    kind: str
    configuration: str
    x: tuple[float, ...]
    y: tuple[float, ...]

    @property
    def mean(self) -> tuple[float, float]:
        """Mean over seeds."""
        return statistics.fmean(self.x), statistics.fmean(self.y)

    @property
    def deviation(self) -> tuple[float, float]:
        """Standard deviations over seeds; 0 with one seed."""
        if len(self.x) == 1:
            return 0.0, 0.0
        return statistics.stdev(self.x), statistics.stdev(self.y)

    def extent(self, axis: int) -> list[float]:
        """Return what is drawn on axis 0 (x) or 1 (y): the seeds, and the ends of the error bar.

        Example:
            >>> Point("mha", "", (1.0, 3.0), (5.0, 5.0)).extent(1)
            [5.0, 5.0, 5.0, 5.0]
        """
        mean, deviation = self.mean[axis], self.deviation[axis]
        return [*(self.x, self.y)[axis], mean - deviation, mean + deviation]


@dataclasses.dataclass(frozen=True)
class Panel:
    """One plot.

    Args:
        title: above the plot.
        x_label: what is on the horizontal axis, with its unit; less is better.
        y_label: what is on the vertical axis, with its unit.
        lower_is_better: of the vertical axis.
        points: the models that have both values.
    """

    title: str
    x_label: str
    y_label: str
    lower_is_better: bool
    points: Sequence[Point]

    @property
    def frontier(self) -> list[tuple[float, float]]:
        """The models that no other beats in both, the cheapest first.

        Example:
            >>> models = [Point("a", "", (1,), (9,)), Point("b", "", (2,), (5,))]
            >>> Panel("", "", "", True, [*models, Point("c", "", (3,), (7,))]).frontier
            [(1.0, 9.0), (2.0, 5.0)]
        """
        sign = 1 if self.lower_is_better else -1
        found: list[tuple[float, float]] = []
        for x, y in sorted(
            (point.mean for point in self.points), key=lambda p: (p[0], sign * p[1])
        ):
            if not found or sign * y < sign * found[-1][1]:
                found.append((x, y))
        return found


def plot_trade_offs(panels: Sequence[Panel], path: Path, title: str = "") -> None:
    """Draw panels, `COLUMNS` a row, into a PNG file.

    Args:
        panels: at least one.
        path: the file, written as a whole.
        title: of the picture.
    """
    n_rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(4.6 * COLUMNS, 3.7 * n_rows + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, COLUMNS, squeeze=False).flatten()
    colours = colours_of(panels)
    shown = dict.fromkeys(point.configuration for panel in panels for point in panel.points)
    shapes = dict(zip(shown, itertools.cycle(_SHAPES), strict=False))
    for ax, panel in zip(axes, panels, strict=False):
        _draw(ax, panel, colours, shapes)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    handles = [_handle("o", colour, kind) for kind, colour in colours.items()]
    if len(shapes) > 1:
        handles += [_handle(shape, _GREY, name) for name, shape in shapes.items()]
    handles.append(Line2D([], [], color=_GREY, linestyle="--", label="none is better in both"))
    figure.suptitle(title, fontsize=12)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})


def colours_of(panels: Sequence[Panel]) -> dict[str, str]:
    """Return the colour of each kind, the same in all panels."""
    kinds = dict.fromkeys(point.kind for panel in panels for point in panel.points)
    return dict(zip(kinds, itertools.cycle(COLOURS), strict=False))


def _handle(shape: str, colour: str, label: str) -> Line2D:
    return Line2D(
        [], [], color=colour, marker=shape, markersize=9, linestyle="none", label=label
    )  # fmt: skip


def _draw(ax, panel: Panel, colours: Mapping[str, str], shapes: Mapping[str, str]) -> None:
    ax.set_title(textwrap.fill(panel.title, _TITLE_CHARACTERS), fontsize=10, loc="left")
    ax.set_xlabel(panel.x_label)
    ax.set_ylabel(panel.y_label)
    ax.grid(color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if not panel.points:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color="#555555")
        return
    ax.plot(*zip(*panel.frontier, strict=True), "--", color=_GREY, linewidth=1, zorder=1)
    for point in panel.points:
        colour, shape = colours[point.kind], shapes[point.configuration]
        (x, y), (x_error, y_error) = point.mean, point.deviation
        if len(point.x) > 1:
            ax.plot(point.x, point.y, ".", color=colour, alpha=0.5, zorder=2)
            ax.errorbar([x], [y], xerr=x_error, yerr=y_error, color=colour, capsize=3, zorder=2)
        # open where two points lie on one another: the lower one is seen through it
        ax.plot(
            [x], [y], shape, color=colour, markersize=9, alpha=0.85, markeredgecolor="white",
            linestyle="none", zorder=3,
        )  # fmt: skip
    for set_limits, place in ((ax.set_xlim, 0), (ax.set_ylim, 1)):
        values = [value for point in panel.points for value in point.extent(place)]
        set_limits(*_limits(min(values), max(values)))


def _limits(least: float, most: float) -> tuple[float, float]:
    """Return the ends of an axis: those of the data with a margin, and zero where it is near.

    Example:
        >>> _limits(40.0, 60.0), _limits(10.0, 100.0)
        ((37.0, 63.0), (0.0, 113.5))
    """
    margin = 0.15 * (most - least) or 0.1 * abs(most) or 1.0
    return (0.0 if 0 <= least < 0.35 * most else least - margin), most + margin
