"""The sets of a recipe: their names, and where their data are."""

from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import speed_factors


class Sets:
    """Names of the sets, and the directories of their data.

    Args:
        options: what `parse_options` returns.
        root: the recipe's directory.
        kind: of input, the directory in the dump: `raw`, `extracted`, `fairseq_zip`, and such as
            `raw_8k` at another rate.

    Attributes:
        original_train: the training set that stage 1 makes.
        train: the one that stages 2 to 11 work on: with copies at other speeds, if any.
        valid: the validation set.
        tests: the test sets, without the validation set.
        speed_factors: of the copies, as they are written.

    Raises:
        UserError: a required set is missing, or the training set is also another set.
    """

    def __init__(self, options: SimpleNamespace, root: Path, kind: str):
        for name in ("train_set", "valid_set", "test_sets"):
            if not getattr(options, name).strip():
                raise UserError(f"--{name} is required", exit_code=2)
        self.speed_factors = speed_factors(getattr(options, "speed_perturb_factors", ""))
        self.original_train = options.train_set
        self.train = f"{options.train_set}{'_sp' if self.speed_factors else ''}"
        self.valid = options.valid_set
        tests = list(dict.fromkeys(options.test_sets.split()))
        for name in (self.original_train, self.train):
            if name == self.valid or name in tests:
                raise UserError(f"--train_set {name} is also a validation or test set", 2)
        self._valid_is_evaluated = options.eval_valid_set or self.valid in tests
        self.tests = [name for name in tests if name != self.valid]
        self._data = root / "data"
        self.dump_dir = root / options.dumpdir / kind

    @property
    def given(self) -> list[str]:
        """The sets that stage 1 makes."""
        return [self.original_train, self.valid, *self.tests]

    @property
    def formatted(self) -> list[str]:
        """The sets that stage 3 formats."""
        return [self.train, self.valid, *self.tests]

    def data_dir(self, name: str) -> Path:
        """Return the data directory of a set, made by stage 1, or by stage 2."""
        return self._data / name

    def formatted_dir(self, name: str) -> Path:
        """Return where stage 3 writes a set: train and valid wait in org/ for stage 4."""
        is_test = name not in (self.train, self.valid)
        return self.dump_dir / name if is_test else self.dump_dir / "org" / name

    def dump_set_dir(self, name: str) -> Path:
        """Return the directory of a set that is ready for use."""
        return self.dump_dir / name

    @property
    def evaluated(self) -> dict[str, Path]:
        """What is decoded and scored: name in reports -> data directory."""
        valid = {f"org/{self.valid}": self.formatted_dir(self.valid)}
        tests = {name: self.dump_set_dir(name) for name in self.tests}
        return (valid if self._valid_is_evaluated else {}) | tests

    @property
    def lm_train_text(self) -> Path:
        """Text that the model shall write, without empty lines and copies at other speeds."""
        return self.dump_dir / "lm_train.txt"

    def text_of_training(self, table: str) -> dict[Path, int]:
        """Return a table of the training set as said once -> the stage that makes it.

        Copies at other speeds would say everything again: token lists and language models
        are the same with and without them.
        """
        if self.speed_factors:
            return {self.data_dir(self.original_train) / table: 1}
        return {self.formatted_dir(self.train) / table: 3}
