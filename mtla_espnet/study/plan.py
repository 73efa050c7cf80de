"""What a study runs: the recipe's script for each attention kind and seed."""

import dataclasses
import shlex
from pathlib import Path

from mtla_espnet.files import UserError
from mtla_espnet.task import TASKS
from mtla_espnet.task.record import Task

PREPARED = 10  # the last stage that all runs share
TRAINED = 11
SCORED = 13


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a study.

    Args:
        kind: overlay of the attention, as of `--attention`.
        seed: of the training.
    """

    kind: str
    seed: int

    @property
    def name(self) -> str:
        """Name among the runs of the study."""
        return f"{Path(self.kind).stem}_seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class Study:
    """Kinds and seeds on a recipe.

    Args:
        recipe: directory with `run.sh`.
        kinds: overlays, the baseline among them.
        seeds: how many; they are 0, 1, ...
        baseline: the kind that the others are compared with.
        name: experiments are `<expdir>/<name>_<kind>_seed<seed>`, results `<expdir>/<name>`.
        expdir: of the recipe.
        train_args: of the training configuration, laid over it for all runs.
        run_args: of the recipe's script, for all its calls.

    Raises:
        UserError: it is no recipe, a kind stands there twice, or there is no baseline.
    """

    recipe: Path
    kinds: tuple[str, ...]
    seeds: int
    baseline: str
    name: str = "study"
    expdir: str = "exp"
    train_args: str = ""
    run_args: str = ""

    def __post_init__(self):
        if not (self.recipe / "run.sh").is_file():
            raise UserError(f"{self.recipe}: no run.sh there: name the directory of a recipe")
        twice = {kind for kind in self.kinds if self.kinds.count(kind) > 1}
        if twice:
            raise UserError(f"--attention: {', '.join(sorted(twice))} is named twice", 2)
        if self.baseline not in self.kinds:
            raise UserError(
                f"--baseline {self.baseline}: --attention does not name it "
                f"(it has {', '.join(self.kinds)})",
                2,
            )
        self._words("run_args")

    @property
    def task(self) -> Task:
        """The recipe's task, by its script.

        Raises:
            UserError: no script of a task is there.
        """
        for task in TASKS.values():
            if (self.recipe / f"{task.name}.sh").exists():
                return task
        scripts = ", ".join(f"{name}.sh" for name in TASKS)
        raise UserError(f"{self.recipe}: none of {scripts} is there: which task is it?")

    @property
    def runs(self) -> list[Run]:
        """All trainings: every kind with the first seed, then with the second, ..."""
        return [Run(kind, seed) for seed in range(self.seeds) for kind in self.kinds]

    @property
    def directory(self) -> Path:
        """Where tables, plots and logs go."""
        return self.recipe / self.expdir / self.name

    def experiment(self, run: Run) -> Path:
        """Directory of a training."""
        return self.directory.with_name(f"{self.name}_{run.name}")

    def prepare(self) -> list[str]:
        """Return the command of all that comes before the trainings."""
        return self._command(self.runs[0], 1, PREPARED)

    def train(self, run: Run) -> list[str]:
        """Return the command that trains."""
        return self._command(run, TRAINED, TRAINED)

    def decode(self, run: Run) -> list[str]:
        """Return the command that decodes and scores."""
        return self._command(run, TRAINED + 1, SCORED)

    def _command(self, run: Run, first: int, last: int) -> list[str]:
        model = self.task.model
        experiment = f"{self.expdir}/{self.experiment(run).name}"
        return [
            "./run.sh",
            *self._words("run_args"),
            *("--stage", str(first), "--stop_stage", str(last)),
            *("--expdir", self.expdir, "--attention", run.kind),
            *(f"--{model}_exp", experiment),
            *(f"--{model}_args", f"{self.train_args} --seed {run.seed}".strip()),
        ]

    def _words(self, option: str) -> list[str]:
        try:
            return shlex.split(getattr(self, option))
        except ValueError as error:
            raise UserError(f"--{option} {getattr(self, option)!r}: {error}", 2) from None
