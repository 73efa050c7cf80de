"""A recipe on a cluster, where one job of each stage stops in its middle and waits.

    python stopping_run.py PLACE RECIPE_OPTIONS ...

Once in each of `MIDDLES` a job leaves the numbers of its process and its Slurm job and the name
of its node in `PLACE/stopped.<file>`, and goes on when `PLACE/go.<file>` is there.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

PATIENCE_S = 600
TOOL = 3
# File of the package -> function after whose first call a job is in its middle: a block of stage
# 3 has its files and no record, a job of stage 10 one sum, a shard of stage 12 one batch.
MIDDLES = {"blocks.py": "_content", "statistics.py": "block_sums", "journal.py": "add"}


class Stopping:
    """A job that stops.

    Args:
        function: the job.
        place: of the files that tell of it.
    """

    def __init__(self, function, place: Path):
        self.function, self.place = function, place

    def __call__(self, argument):
        events = sys.monitoring.events.PY_RETURN
        sys.monitoring.use_tool_id(TOOL, "stopping")
        sys.monitoring.register_callback(TOOL, events, self.watch)
        sys.monitoring.set_events(TOOL, events)
        try:
            return self.function(argument)
        finally:
            sys.monitoring.free_tool_id(TOOL)

    def watch(self, code, *_):
        name = os.path.basename(code.co_filename)
        if MIDDLES.get(name) != code.co_name:
            return sys.monitoring.DISABLE  # it costs nothing from here on
        self.stop(name)
        return None

    def stop(self, name: str) -> None:
        words = {"pid": os.getpid(), "job": os.environ["SLURM_JOB_ID"]}
        words["node"] = os.environ["SLURMD_NODENAME"]
        whole = self.place / f"{name}.{os.getpid()}"
        whole.write_text(json.dumps(words))
        with contextlib.suppress(FileExistsError):
            os.link(whole, self.place / f"stopped.{name}")
            deadline = time.monotonic() + PATIENCE_S
            while not (self.place / f"go.{name}").exists() and time.monotonic() < deadline:
                time.sleep(0.1)


if __name__ == "__main__":
    from mtla_espnet.cli import main
    from mtla_espnet.jobs.cluster import ClusterEngine

    place, run_jobs = Path(sys.argv[1]), ClusterEngine.run_jobs
    ClusterEngine.run_jobs = lambda self, function, arguments, progress: run_jobs(
        self, Stopping(function, place), arguments, progress
    )
    sys.exit(main(["recipe", "asr", *sys.argv[2:]]))
