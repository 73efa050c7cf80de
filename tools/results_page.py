#!/usr/bin/env python3
"""Write the tables of docs/results.md from the studies that recipes keep.

`mtla-espnet study` writes a `study.csv`; a recipe keeps it beside its README. In the page
a table stands between two marks:

    <!-- study egs2/debian/sum1 rouge_l -->
    <!-- end -->

    tools/results_page.py           # writes them anew
"""

import csv
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs/results.md"
_MARKED = re.compile(r"(<!-- study (\S+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(rows: list[dict[str, str]], measure: str) -> str:
    """Return the table of a measure.

    Args:
        rows: of a `study.csv`: one a training.
        measure: name in the column `measure`.
    """
    runs = [row for row in rows if row["measure"] == measure]
    kinds = dict.fromkeys(row["kind"] for row in runs)
    baseline = next(row["kind"] for row in runs if not row["verdict"])
    head = (
        f"| kind | {measure.replace('rouge_', 'ROUGE-').upper()} | seeds | less {baseline} | "
        "95 % over items | 95 % over seeds | verdict | train s | KV B/pos | KV peak MB |\n"
        "|:--|--:|--:|--:|--:|--:|:--|--:|--:|--:|\n"
    )
    return head + "".join(
        "| " + " | ".join(_cells(kind, [row for row in runs if row["kind"] == kind])) + " |\n"
        for kind in kinds
    )


def _cells(kind: str, runs: list[dict[str, str]]) -> Iterator[str]:
    values = [float(run["value"]) for run in runs]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    first = runs[0]
    yield kind
    yield f"{statistics.mean(values):.2f}{spread}"
    yield str(len(values))
    yield f"{float(first['difference']):+.2f}" if first["difference"] else "-"
    for over in ("items", "seeds"):
        low, high = first[f"{over}_low"], first[f"{over}_high"]
        yield f"[{float(low):+.2f}, {float(high):+.2f}]" if low else "-"
    yield first["verdict"] or "-"
    yield f"{statistics.mean(float(run['train_s']) for run in runs):.0f}"
    yield f"{float(first['cache_bytes_per_position']):.0f}"
    yield f"{statistics.mean(float(run['cache_bytes_peak']) for run in runs) / 1e6:.0f}"


def written(page: str) -> str:
    """Return the page with its tables."""

    def replace(match: re.Match) -> str:
        with (CHECKOUT / match[2] / "study.csv").open(encoding="utf-8", newline="") as file:
            return match[1] + table(list(csv.DictReader(file)), match[3]) + match[4]

    return _MARKED.sub(replace, page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
