"""`comparison.html`: one file with sortable tables, plots to point at, curves and examples.

It needs no network: plotly's script is in it.
"""

import dataclasses
import html
import itertools
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from mtla_espnet.files import write_text
from mtla_espnet.report.curves import learning_curves
from mtla_espnet.report.examples import Example
from mtla_espnet.report.plots import Panel, colours_of

_TEMPLATE = Path(__file__).with_name("page.html")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_CURVES = (("loss", "loss on the validation set"), ("acc", "accuracy on the validation set"))


@dataclasses.dataclass(frozen=True)
class Section:
    """What the page shows of a decoded set.

    Args:
        title: heading.
        panels: quality against costs.
        columns: headings of the table, the model first.
        rows: a cell a column.
        warnings: what a reader must know of single rows.
        examples: utterances on which the models differ most.
        models: names of the models of `examples`.
        measure: heading of what `examples` are compared by.
    """

    title: str
    panels: Sequence[Panel]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    warnings: Sequence[str]
    examples: Sequence[Example]
    models: Sequence[str]
    measure: str


def write_page(
    path: Path,
    title: str,
    note: str,
    sections: Sequence[Section],
    trainings: Mapping[Path, tuple[str, str]],
) -> None:
    """Write the page.

    Args:
        path: the file, written as a whole.
        title: of the page.
        note: what the columns mean.
        sections: one a decoded set.
        trainings: directories whose learning curves are shown -> kind of attention, which colours
            them as it does its points, and configuration, which dashes them.
    """
    colours = colours_of([panel for section in sections for panel in section.panels])
    parts = [_section(number, section, colours) for number, section in enumerate(sections)]
    parts.append(_curves(trainings, colours))
    template = string.Template(_TEMPLATE.read_text(encoding="utf-8"))
    text = template.substitute(
        title=html.escape(title),
        note=html.escape(note).replace("`", ""),
        plotly=get_plotlyjs(),
        body="\n".join(parts),
    )
    write_text(path, text)


def _section(number: int, section: Section, colours: Mapping[str, str]) -> str:
    table = f"table{number}"
    head = "".join(f'<th scope="col">{html.escape(each)}</th>' for each in section.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in section.rows
    )
    warnings = "".join(f'<p class="note">{html.escape(each)}</p>' for each in section.warnings)
    plots = ""
    if section.panels:
        plots = _div(_scatter(section.panels, colours), f"plot{number}")
    return (
        f"<h2>{html.escape(section.title)}</h2>\n{plots}\n"
        f'<input class="filter" data-table="{table}" placeholder="filter rows, such as mtla" '
        f'aria-label="filter rows">\n<div class="wide"><table class="sortable" id="{table}">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n{warnings}"
        f"{_examples(section)}"
    )


def _scatter(panels: Sequence[Panel], colours: Mapping[str, str]) -> go.Figure:
    figure = make_subplots(rows=1, cols=len(panels), horizontal_spacing=0.08)
    shown = dict.fromkeys(point.configuration for panel in panels for point in panel.points)
    symbols = {name: _SYMBOLS[i % len(_SYMBOLS)] for i, name in enumerate(shown)}
    told = set()
    for column, panel in enumerate(panels, 1):
        place = {"row": 1, "col": column}
        if panel.frontier:
            xs, ys = zip(*panel.frontier, strict=True)
            line = {"dash": "dash", "color": "#999999", "width": 1}
            figure.add_scatter(
                x=xs, y=ys, mode="lines", line=line, showlegend=False, hoverinfo="skip", **place
            )
        for point in panel.points:
            name = ", ".join(filter(None, (point.kind, point.configuration)))
            (x, y), (x_error, y_error) = point.mean, point.deviation
            seeds = f"<br>{len(point.x)} seeds" if len(point.x) > 1 else ""
            figure.add_scatter(
                x=[x],
                y=[y],
                error_x={"array": [x_error], "visible": bool(seeds)},
                error_y={"array": [y_error], "visible": bool(seeds)},
                mode="markers",
                name=html.escape(name),
                legendgroup=name,
                showlegend=name not in told,
                marker={
                    "size": 11,
                    "opacity": 0.85,
                    "color": colours[point.kind],
                    "symbol": symbols[point.configuration],
                },
                hovertemplate=f"{html.escape(name)}<br>%{{x:.4g}}, %{{y:.4g}}{seeds}"
                "<extra></extra>",
                **place,
            )
            told.add(name)
        figure.update_xaxes(title_text=panel.x_label, **place)
        figure.update_yaxes(title_text=panel.y_label, **place)
    return _styled(figure, 430)


def _curves(trainings: Mapping[Path, tuple[str, str]], colours: Mapping[str, str]) -> str:
    found = {path: learning_curves(path) for path in trainings}
    found = {path: curves for path, curves in found.items() if curves}
    if not found:
        return ""
    figure = make_subplots(rows=1, cols=len(_CURVES), horizontal_spacing=0.08)
    configurations = dict.fromkeys(trainings[path][1] for path in found)
    dashes = dict(zip(configurations, itertools.cycle(_DASHES), strict=False))
    for path, curves in found.items():
        kind, configuration = trainings[path]
        line = {"color": colours.get(kind, "#999999"), "dash": dashes[configuration], "width": 2}
        for column, (measure, label) in enumerate(_CURVES, 1):
            curve = curves.get(measure, {})
            figure.add_scatter(
                x=list(curve),
                y=list(curve.values()),
                mode="lines" if len(curve) > 1 else "markers",
                name=html.escape(path.name),
                legendgroup=path.name,
                showlegend=column == 1,
                line=line,
                marker={"color": line["color"]},
                row=1,
                col=column,
            )
            figure.update_xaxes(title_text="epoch", row=1, col=column)
            figure.update_yaxes(title_text=label, row=1, col=column)
    return f"<h2>Learning curves</h2>\n{_div(_styled(figure, 430), 'curves')}"


def _styled(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        legend={"orientation": "h", "yanchor": "top", "y": -0.2},
    )
    return figure


def _div(figure: go.Figure, name: str) -> str:
    return figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displaylogo": False}
    )


def _examples(section: Section) -> str:
    if not section.examples:
        return ""
    rows = []
    for example in section.examples:
        rows.append(
            f"<tr><td><b>{html.escape(example.name)}</b></td><td>reference</td><td></td>"
            f"<td>{html.escape(example.reference)}</td></tr>"
        )
        rows += [
            f'<tr><td></td><td>{html.escape(model)}</td><td class="value">{value:.1f}</td>'
            f"<td>{html.escape(text)}</td></tr>"
            for model, value, text in zip(
                section.models, example.values, example.texts, strict=True
            )
        ]
    headings = ("utterance", "model", section.measure, "text")
    head = "".join(f"<th>{html.escape(each)}</th>" for each in headings)
    return (
        f"<details><summary>Where the models differ most ({len(section.examples)} utterances)"
        f'</summary>\n<table class="example"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></details>"
    )
