"""One shard of a set that stage 12 decodes, in a fork, on a GPU of its own or on a cluster.

A plain value that can be pickled. What an earlier life of the shard decoded is read from the
journals when it begins, so that one which runs again costs its last batch alone.
"""

import dataclasses
import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.jobs.fan_out import worker_memory_bytes
from mtla_espnet.jobs.log import job_log


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What a shard did.

    Args:
        cost: what `efficiency.json` holds; None: nothing was left to decode.
        failed: id -> reason of the utterances that were left out.
        journal: name of the journal that has the same cost.
        worker: the process that decoded.
    """

    cost: dict | None
    failed: Mapping[str, str]
    journal: str
    worker: str


@dataclasses.dataclass(frozen=True)
class DecodeShard:
    """Decodes the shard whose number, from 1, it is called with.

    Args:
        shards: ids of each.
        name: of the log, without number and ending.
        log_dir: where shards write.
        journals: directory of the journals.
        identity: of the journals, see `mtla_espnet.inference.journal`.
        memory_bytes: for one shard on a CPU; a worker on a cluster knows its own.
        progress: show a bar.
        arguments: the other arguments of `mtla_espnet.inference.decode.decode`.
    """

    shards: Sequence[Sequence[str]]
    name: str
    log_dir: Path
    journals: Path
    identity: str
    memory_bytes: int | None
    progress: bool
    arguments: Mapping

    def __call__(self, number: int) -> Decoded:
        """Decode; a log, the tables and the cost are left in `log_dir`."""
        from mtla_espnet.inference.decode import decode
        from mtla_espnet.inference.journal import Journal, killed_batches, read_journals

        keys = self.shards[number - 1]
        output = self.log_dir / f"output.{number}"
        write_table(self.log_dir / f"keys.{number}.scp", {key: key for key in keys})
        log = self.log_dir / f"{self.name}.{number}.log"
        words = ["decode", self.arguments["model_file"], self.arguments["data_dir"], output]
        known, _ = read_journals(self.journals, self.identity)
        own = set(keys)  # the batches of other shards are being decoded now
        killed = [
            batch
            for batch in killed_batches(self.journals, self.identity)
            if not own.isdisjoint(batch)
        ]
        with (
            job_log(log, shlex.join(map(str, words)), silent=not self.progress),
            Journal(self.journals, self.identity) as journal,
        ):
            cost, failed = decode(
                **self.arguments,
                keys=keys,
                output_dir=output,
                max_memory_bytes=worker_memory_bytes() or self.memory_bytes,
                progress=self.progress,
                known=known,
                journal=journal,
                killed=killed,
            )
        return Decoded(cost, failed, journal.name, f"{socket.gethostname()}:{os.getpid()}")
