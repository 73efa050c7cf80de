"""The words that a site gives to sbatch: Kaldi's and ESPnet's `conf/slurm.conf`.

```
command sbatch --export=PATH
option num_nodes=* --nodes $0
default gpu=0
option gpu=0 -p cpu
option gpu=* -p gpu --gres=gpu:$0 -c $0
```

`$0` is the value. A line with an exact value goes before one with `*`, wherever they stand.
"""

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path

from mtla_espnet.files import UserError, read_text, reading

# What a recipe without the file asks for; a site without partitions for GPUs needs no more.
_BUILT_IN = {
    ("name", "*"): ("--job-name", "$0"),
    ("num_nodes", "*"): ("--nodes", "$0"),
    ("gpu", "0"): (),
    ("gpu", "*"): ("--gres=gpu:$0",),
}


@dataclasses.dataclass(frozen=True)
class SlurmConf:
    """What the file says.

    Args:
        command: sbatch, with the words that every job has.
        options: (name, exact value or `*`) -> words.
        defaults: name -> value, of options that a job does not set.
    """

    command: tuple[str, ...] = ("sbatch",)
    options: Mapping[tuple[str, str], tuple[str, ...]] = dataclasses.field(
        default_factory=lambda: dict(_BUILT_IN)
    )
    defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def words(self, **settings: object) -> list[str]:
        """Return the command for a job.

        Args:
            settings: option -> value; one that the file does not know has the words that a
                recipe without the file has.

        Example:
            >>> SlurmConf().words(name="a", num_nodes=2, gpu=4)
            ['sbatch', '--job-name', 'a', '--nodes', '2', '--gres=gpu:4']
        """
        words = list(self.command)
        values = dict(self.defaults) | {name: str(value) for name, value in settings.items()}
        for name, value in values.items():
            known = self.options if any(key[0] == name for key in self.options) else _BUILT_IN
            found = known.get((name, value), known.get((name, "*"), ()))
            words += [word.replace("$0", value) for word in found]
        return words


def read_slurm_conf(path: Path) -> SlurmConf:
    """Read the file; one that is missing says nothing beyond number of nodes and GPUs.

    Raises:
        UserError: a line is not one of these; names file and line.
    """
    if not path.exists():
        return SlurmConf()
    command, options, defaults = ("sbatch",), {}, {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        where = f"{path}:{number}"
        with reading(where, "not words of a shell"):
            words = shlex.split(line, comments=True)
        if not words:
            continue
        kind, *rest = words
        name, equals, value = rest[0].partition("=") if rest else ("", "", "")
        if kind == "command" and rest and Path(rest[0]).name == "sbatch":
            command = tuple(rest)
        elif kind == "option" and name and equals:
            options[name, value] = tuple(rest[1:])
        elif kind == "default" and name and equals and len(rest) == 1:
            defaults[name] = value
        else:
            raise UserError(
                f"{where}: cannot be read: {line.strip()!r} (command sbatch ..., "
                "option NAME=VALUE WORDS or default NAME=VALUE)"
            )
    return SlurmConf(command, options, defaults)
