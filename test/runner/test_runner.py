"""Which stages and parts run, which are skipped, and what an interruption leaves."""

import sys
import types

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.jobs.lock import directory_lock
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.runner import runner

SETS = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test"]


def chosen(*argv):
    return runner.chosen_stages(parse_options(argv))


def test_stages_are_chosen_as_in_espnet():
    assert chosen() == list(range(1, 16))
    assert chosen("--stage", "3", "--stop_stage", "5") == [3, 4, 5]
    assert chosen("--skip_stages", "6 7 8", "--stop_stage", "10") == [1, 2, 3, 4, 5, 9, 10]
    assert chosen("--skip_data_prep", "true") == list(range(6, 16))
    assert chosen("--skip_train", "true") == [1, 3, 12, 13, 14, 15]
    assert chosen("--skip_eval", "true", "--stage", "11") == [11, 14, 15]
    assert chosen("--stage", "5", "--stop_stage", "4") == []


class Body:
    """A stage with two parts, which copies a file."""

    def __init__(self, monkeypatch, root):
        self.root, self.ran, self.fail, self.options = root, [], None, {}
        self.goes_on = {}
        module = types.ModuleType("mtla_espnet.stages.fake")
        module.TITLE, module.parts, module.run = "Copy", self.parts, self.run
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(runner.BODIES, 3, "fake")
        for name in "ab":
            (root / name).write_text(name)

    def parts(self, recipe):
        return [
            Part(
                self.root / f"out_{name}",
                dict(self.options),
                {self.root / name: 1},
                [self.root / f"out_{name}/copy"],
                name,
                **self.goes_on,
            )
            for name in "ab"
        ]

    def run(self, recipe, part):
        self.ran.append(part.name)
        part.outputs[0].write_text((self.root / part.name).read_text())
        if self.fail == part.name:
            raise KeyboardInterrupt


@pytest.fixture
def body(monkeypatch, tmp_path):
    return Body(monkeypatch, tmp_path)


def run(body, *argv):
    body.ran.clear()
    runner.run_stage(Recipe(parse_options([*SETS, *argv]), body.root), 3)
    return body.ran


def test_parts_that_are_done_are_skipped(body, capsys):
    assert run(body) == ["a", "b"]
    assert run(body) == []
    assert "Stage 3: Copy: done already, skipped" in capsys.readouterr().out
    (body.root / "b").write_text("other")
    assert run(body) == ["b"]
    assert (body.root / "out_b/copy").read_text() == "other"
    assert "Stage 3: Copy [b] (again: input.b changed)" in capsys.readouterr().out
    body.options["fs"] = 8
    assert run(body) == ["a", "b"]
    assert run(body, "--force", "true") == ["a", "b"]


def test_an_interrupted_part_runs_again_and_the_one_before_does_not(body, capsys):
    body.fail = "b"
    with pytest.raises(KeyboardInterrupt):
        run(body)
    body.fail = None
    assert run(body) == ["b"]
    assert "[b] (again: was interrupted)" in capsys.readouterr().out


def test_a_directory_in_use_is_refused(body):
    with directory_lock(body.root / "out_b"):
        with pytest.raises(UserError, match="out_b is in use by process"):
            run(body)
    assert run(body) == ["b"]


def test_a_part_that_goes_on_refuses_other_settings_unless_forced(body):
    body.options = {"lr": 1, "max_epoch": 1}
    allowed = frozenset(["option.max_epoch"])
    body.goes_on = {"goes_on_from": body.root / "a", "may_change": allowed}
    assert run(body) == ["a", "b"]
    body.options["max_epoch"] = 2
    assert run(body) == ["a", "b"]
    body.options["lr"] = 2
    with pytest.raises(UserError, match=r"out_a was made .* \(option.lr: 1 -> 2\): name another"):
        run(body)
    assert run(body, "--force", "true") == ["a", "b"]


def test_help_is_printed(capsys):
    runner.run_recipe(["--help"])
    assert capsys.readouterr().out.startswith("usage: ./run.sh")
