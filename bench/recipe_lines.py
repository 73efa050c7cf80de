#!/usr/bin/env python3
"""Go on with several trainings of a recipe one after another in one process.

usage: recipe_lines.py SECONDS < LINES      in the recipe's directory

A line is the directory of a training, then options that are laid over those of its `run.sh`,
such as `exp/asr_fbank --stage 12 --stop_stage 13`. ESPnet is imported once, which takes ten
seconds, and a GPU is warm for all but the first. After SECONDS no other line is begun. A line
that fails does not stop the others; the exit code is then 1.
"""

import gc
import shlex
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

import torch

from mtla_espnet.files import UserError
from mtla_espnet.runner.runner import run_recipe


def main(seconds: float, lines: Iterable[str]) -> int:
    """Run the lines; return the exit code."""
    begin, code = time.monotonic(), 0
    for line in lines:
        if time.monotonic() - begin > seconds:
            print(f"no time is left for: {line.strip()}", flush=True)
            code = 1
        elif not _run(line):
            code = 1
    return code


def _run(line: str) -> bool:
    """Run one line, tell what it took, and return whether it worked."""
    directory, *options = shlex.split(line)
    begin, what = time.monotonic(), "done"
    try:
        _, command = (Path(directory) / "run.sh").read_text().splitlines()
        script, *trained_by, _ = shlex.split(command)  # the last is "$@"
        run_recipe([*trained_by, *options], task=Path(script).stem)
    except (UserError, OSError) as error:
        what = f"error: {error}"
    except Exception:
        traceback.print_exc()
        what = "error: see above"
    gc.collect()
    torch.cuda.empty_cache()
    print(f"{time.monotonic() - begin:.1f} s: {line.strip()}: {what}", flush=True)
    return what == "done"


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.stdin))
