"""What a decode has found so far, on disk as it comes: a killed one loses a batch at most.

A journal is one run of one job: a line that names what it decodes and how, then two lines a
batch: one when it begins, one when it is decoded. The last line says that the run was not killed.
A line is whole or, where the run was killed in it, left out; nothing is ever rewritten.
"""

import contextlib
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

# Of one utterance: a row a hypothesis, table -> value (text, token, token_int, score).
Rows = list[dict[str, str]]


class Journal:
    """Writes what a job decodes.

    Args:
        directory: of the journals of a set; it is created.
        identity: names model, configuration, arguments and data.

    Attributes:
        name: of its file.
    """

    def __init__(self, directory: Path, identity: str):
        directory.mkdir(parents=True, exist_ok=True)
        self.name = f"{uuid.uuid4().hex}.jsonl"
        self._stream = open(directory / self.name, "w", encoding="utf-8")  # noqa: SIM115  (closed on exit)
        self._write({"identity": identity})

    def begin(self, keys: Sequence[str]) -> None:
        """Note that a batch begins: a run that is killed in it is not to meet it again."""
        self._write({"begun": list(keys)})

    def add(self, found: Mapping[str, Rows], cost: dict) -> None:
        """Note a batch.

        Args:
            found: id -> hypotheses.
            cost: of the run until now, this batch included.
        """
        self._write({"found": found, "cost": cost})

    def _write(self, value: dict) -> None:
        self._stream.write(json.dumps(value, ensure_ascii=False) + "\n")
        self._stream.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._write({"ended": True})  # also by an exception or an interruption
        self._stream.close()


def read_journals(
    directory: Path, identity: str, without: Collection[str] = ()
) -> tuple[dict[str, Rows], list[dict]]:
    """Return what earlier runs found, and the cost of each.

    Args:
        directory: of the journals of a set; it need not exist.
        identity: journals of another one are removed.
        without: names of journals that are left out.

    Returns:
        Id -> hypotheses, and the costs of the runs that found something.
    """
    found: dict[str, Rows] = {}
    costs = []
    for path in sorted(directory.glob("*.jsonl")):
        if path.name in without:
            continue
        head, *batches = _whole_lines(path) or [{}]
        if head.get("identity") != identity:
            path.unlink(missing_ok=True)  # jobs do so side by side
            continue
        batches = [line for line in batches if "found" in line]
        for batch in batches:
            found |= batch["found"]
        if batches:
            costs.append(batches[-1]["cost"])
    return found, costs


def killed_batches(directory: Path, identity: str) -> list[list[str]]:
    """Return the batches in which earlier runs were killed, such as for their memory.

    Args:
        directory: of the journals of a set; it need not exist.
        identity: names model, configuration, arguments and data.

    Returns:
        The ids of each batch, once a run.
    """
    batches = []
    for path in sorted(directory.glob("*.jsonl")):
        head, *lines = _whole_lines(path) or [{}]
        if head.get("identity") == identity and lines and "begun" in lines[-1]:
            batches.append(lines[-1]["begun"])
    return batches


def _whole_lines(path: Path) -> list[dict]:
    *lines, _ = path.read_bytes().split(b"\n")  # what follows the last line end was cut off
    whole = []
    with contextlib.suppress(ValueError):  # zeros, which a power cut leaves: no line after them
        for line in lines:
            whole.append(json.loads(line))
    return whole
