"""Reads the experiments of a study: scores by item, and costs."""

import dataclasses
from collections.abc import Sequence

from mtla_espnet.files import UserError
from mtla_espnet.report.rows import Row, gather
from mtla_espnet.score.items import check_same_items
from mtla_espnet.score.record import Measure
from mtla_espnet.score.registry import SCORES, items_of
from mtla_espnet.study.plan import Run, Study
from mtla_espnet.study.statistics import Comparison, Spread, compare


@dataclasses.dataclass(frozen=True)
class KindResult:
    """A kind under a measure on a set.

    Args:
        kind: overlay of the attention.
        spread: of the measure over seeds.
        comparison: with the baseline; None for the baseline itself, where it is missing, and on
            a set of one item.
        rows: costs, one a seed.
    """

    kind: str
    spread: Spread
    comparison: Comparison | None
    rows: Sequence[Row]

    def cost(self, name: str) -> float | None:
        """Return the mean of a cost over seeds; None where one was not measured."""
        values = [row[name] for row in self.rows]
        return None if None in values else sum(values) / len(values)


@dataclasses.dataclass(frozen=True)
class StudyTable:
    """All kinds under a measure on a set.

    Args:
        inference_tag: of the decoding.
        test_set: its name.
        measure: of quality.
        items: utterances or documents that were scored.
        kinds: in the order of the study.
    """

    inference_tag: str
    test_set: str
    measure: Measure
    items: int
    kinds: Sequence[KindResult]


def read_study(study: Study, margin: float) -> tuple[list[StudyTable], list[str]]:
    """Read what is there of a study.

    Args:
        study: what was run.
        margin: within which values count as equal, in the unit of the measure.

    Returns:
        A table a set and measure, and the names of runs that are not scored.

    Raises:
        UserError: nothing is scored, runs have other items, or a file cannot be read.
    """
    expdir = study.directory.parent
    of_study = {study.experiment(run).name: run for run in study.runs}
    rows = (
        [row for row in gather(expdir) if row["experiment"] in of_study] if expdir.is_dir() else []
    )
    if not rows:
        raise UserError(f"{study.directory}: no run of the study is scored")
    tables = []
    for tag, test_set in dict.fromkeys((row["inference_tag"], row["test_set"]) for row in rows):
        there = {
            of_study[row["experiment"]]: row
            for row in rows
            if (row["inference_tag"], row["test_set"]) == (tag, test_set)
        }
        tables += _tables(study, tag, test_set, there, margin)
    missing = [name for name in of_study if name not in {row["experiment"] for row in rows}]
    return tables, missing


def _tables(
    study: Study, tag: str, test_set: str, rows: dict[Run, Row], margin: float
) -> list[StudyTable]:
    directories = {run: study.experiment(run) / tag / test_set for run in rows}
    items = {run: items_of(directory) for run, directory in directories.items()}
    names = [
        measure
        for score in SCORES.values()
        for measure in score.measures
        if all(measure.name in each for each in items.values())
    ]
    tables = []
    for measure in names:
        of_measure = {run: each[measure.name] for run, each in items.items()}
        check_same_items([(directories[run], each) for run, each in of_measure.items()])
        by_kind = {
            kind: {run: each for run, each in of_measure.items() if run.kind == kind}
            for kind in study.kinds
        }
        baseline = list(by_kind[study.baseline].values())
        kinds = []
        for kind, runs in by_kind.items():
            if not runs:
                continue
            compared = None
            # A set of one item says nothing of other items.
            if baseline and kind != study.baseline and len(baseline[0].ids) > 1:
                compared = compare(list(runs.values()), baseline, margin, measure.lower_is_better)
            spread = Spread(tuple(each.of_all for each in runs.values()))
            kinds.append(KindResult(kind, spread, compared, [rows[run] for run in runs]))
        first = next(iter(of_measure.values()))
        tables.append(StudyTable(tag, test_set, measure, len(first.ids), kinds))
    return tables
