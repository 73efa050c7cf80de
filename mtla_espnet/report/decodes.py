"""The decoded sets of an experiment: what each reached, what it cost, and what went wrong."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.score.efficiency import FILE, read_efficiency, was_busy
from mtla_espnet.score.record import Result
from mtla_espnet.score.registry import SCORES, scores_of

FAILED = "failed.tsv"


@dataclasses.dataclass(frozen=True)
class Decode:
    """One decoded set of an experiment.

    Args:
        inference_tag: which decoding; empty of what nothing was decoded for, as a baseline.
        test_set: which set; may hold a slash (`org/valid`).
        results: name of a score -> what it says; empty of a set that is not scored.
        efficiency: what `efficiency.json` holds; None without that file.
        hypotheses: how many there are; 0 without a table of them.
        empty: how many of them have no word.
        failed: utterances that were not decoded.
    """

    inference_tag: str
    test_set: str
    results: Mapping[str, Result]
    efficiency: dict | None
    hypotheses: int = 0
    empty: int = 0
    failed: int = 0

    @property
    def name(self) -> str:
        """Name in tables."""
        return "/".join(filter(None, (self.inference_tag, self.test_set)))

    @property
    def utterances(self) -> int | None:
        """How many were decoded, or scored where nothing says how many were decoded."""
        scored = [result.utterances for result in self.results.values()]
        most = max(filter(None, scored), default=None)
        return self.efficiency["utterances"] if self.efficiency else most

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before comparing it, a sentence each."""
        found = []
        if self.failed:
            total = self.failed + (self.utterances or 0)
            found.append(f"{self.failed} of {total} utterances were not decoded ({FAILED})")
        if self.hypotheses and self.empty == self.hypotheses:
            found.append(f"all {self.empty} hypotheses are empty: nothing was recognised")
        elif self.empty:
            found.append(f"{self.empty} of {self.hypotheses} hypotheses are empty")
        if self.efficiency and was_busy(self.efficiency):
            wall_s, worked_s = self.efficiency["total_s"], self.efficiency["processor_s"]
            found.append(
                f"the clock ran {wall_s:.1f} s and the processor worked {worked_s:.1f} s: it had "
                "other work or waited for files, so times and speed-ups say little"
            )
        return found


def find_decodes(exp_dir: Path) -> list[Decode]:
    """Find the decoded sets of an experiment that are scored or have failed, sorted by name.

    Raises:
        UserError: a file of one of them cannot be read.
    """
    names = [name for score in SCORES.values() for name in score.files]
    found = {path.parent.parent for name in names for path in exp_dir.rglob(name)}
    found |= {path.parent for path in exp_dir.rglob(FAILED)}
    return [_read(exp_dir, directory) for directory in sorted(found)]


def _read(exp_dir: Path, directory: Path) -> Decode:
    inference_tag, slash, test_set = directory.relative_to(exp_dir).as_posix().partition("/")
    if not slash:
        inference_tag, test_set = "", inference_tag
    cost, hypotheses, failed = directory / FILE, directory / "text", directory / FAILED
    texts = read_table(hypotheses).values() if hypotheses.exists() else ()
    return Decode(
        inference_tag,
        test_set,
        results={score.name: score.read(directory) for score in scores_of(directory)},
        efficiency=read_efficiency(cost) if cost.exists() else None,
        hypotheses=len(texts),
        empty=sum(not text.strip() for text in texts),
        failed=len(failed.read_text(encoding="utf-8").splitlines()) - 1 if failed.exists() else 0,
    )
