"""`make demo-all`: which recipes run, how, and what a failure does."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
RECIPES = ["smarthome/asr1", "smarthome/st1", "smarthome/slu1", "pydocs/sum1"]


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose recipes and whose report only say that they were called."""
    (tmp_path / "tools").mkdir()
    shutil.copy2(CHECKOUT / "tools/demo_all.sh", tmp_path / "tools")
    programs = [f"egs2/{recipe}/run.sh" for recipe in RECIPES] + [".venv/bin/mtla-espnet"]
    for name in programs:
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*"\n')
        path.chmod(0o755)
    return tmp_path


def call(checkout):
    return subprocess.run(
        [checkout / "tools/demo_all.sh"], cwd="/", capture_output=True, text=True, check=False
    )


def test_each_recipe_runs_with_two_kinds_and_one_report_has_all(checkout):
    done = call(checkout)
    assert done.returncode == 0, done.stderr
    calls = [line for line in done.stdout.splitlines() if line and not line.startswith("==")]
    assert calls == [
        *(
            f"egs2/{recipe}/run.sh --attention {kind}"
            for recipe in RECIPES
            for kind in ("mha", "mtla")
        ),
        f".venv/bin/mtla-espnet report {' '.join(RECIPES)}",
    ]


def test_the_recipes_are_there():
    for recipe in RECIPES:
        assert (CHECKOUT / "egs2" / recipe / "run.sh").is_file()


def test_a_recipe_that_fails_ends_it(checkout):
    path = checkout / "egs2/smarthome/st1/run.sh"
    path.write_text("#!/bin/sh\nexit 3\n")
    done = call(checkout)
    assert done.returncode == 3
    assert "slu1" not in done.stdout and "report" not in done.stdout
