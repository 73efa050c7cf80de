"""From the files of a trained model to the model: an experiment's directory, or a pack of it.

Nothing that is in these files runs, and what they ask for is bounded by their size; see
`mtla_espnet.trust`.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from mtla_espnet.config import check_choices
from mtla_espnet.files import UserError, read_text, reading
from mtla_espnet.inference.model_config import check_config
from mtla_espnet.inference.named_files import find_file, home_of, resolve_files
from mtla_espnet.inference.packs import unpack_model, unpacked_model
from mtla_espnet.inference.weights import check_parameters, no_larger_than, read_parameters
from mtla_espnet.task import TASKS, task_of
from mtla_espnet.task.record import Task
from mtla_espnet.trust import nothing_runs
from mtla_espnet.yaml_files import read_yaml

# Packs that come with the package: `smarthome` names `smarthome.zip`.
_SHIPPED = {path.stem: path for path in Path(__file__).parent.glob("*.zip")}
MODEL_FILES = ("valid.acc.ave.pth", "valid.acc.best.pth", "latest.pth")


@contextlib.contextmanager
def model_files(path: Path, task: Task = TASKS["asr"]) -> Iterator[dict[str, Path]]:
    """Find the configuration and the parameters of a trained model.

    Args:
        path: an experiment's directory with `config.yaml` and one of `MODEL_FILES`, a zip file
            of stage 14 or `espnet2.bin.pack`, the directory of an unpacked one, or `smarthome`,
            the small model that comes with the package.
        task: that it is of.

    Yields:
        `<model>_train_config` and `<model>_model_file`, and those of a packed language model.
        The files of a pack are there inside the block only.

    Raises:
        UserError: it is neither, or lacks a file.
    """
    path = _place(Path(path))
    if path.is_dir() and (path / "meta.yaml").is_file():
        yield _of_task(unpacked_model(path, _keys(task)), path, task)
        return
    if path.is_dir():
        if not (path / "config.yaml").is_file():
            raise UserError(f"{path}: has no config.yaml: not the directory of a trained model")
        model_file = next((path / name for name in MODEL_FILES if (path / name).is_file()), None)
        if model_file is None:
            raise UserError(f"{path}: has none of {', '.join(MODEL_FILES)}: train it first")
        home = home_of(path / "config.yaml")
        if home is not None and not model_file.resolve().is_relative_to(home):
            raise UserError(f"{model_file}: is a link that leads out of the model's directory")
        yield {
            f"{task.model}_train_config": path / "config.yaml",
            f"{task.model}_model_file": model_file,
        }
        return
    if not path.is_file():
        raise UserError(
            f"{path}: no such directory or zip file of a trained model (known by name: "
            f"{', '.join(_SHIPPED)})"
        )
    with tempfile.TemporaryDirectory() as directory:
        try:
            yield unpack(path, Path(directory), task)
        except UserError as error:  # its files are known by their names in the pack
            told = str(error).replace(directory, str(path))
            raise UserError(told, error.exit_code) from None


def _place(path: Path) -> Path:
    """Return where a model is: what is there goes before what comes with the package."""
    return path if path.exists() else _SHIPPED.get(str(path), path)


def task_of_files(path: Path) -> Task:
    """Return the task of the model in a directory or pack, as `model_files` takes it.

    Raises:
        UserError: it is neither.
    """
    path = _place(path)
    if (path / "config.yaml").is_file():
        return task_of(read_yaml(path / "config.yaml"))
    keys = [_keys(task)[0] for task in TASKS.values()]
    if (path / "meta.yaml").is_file():
        found = unpacked_model(path, keys)
    elif path.is_file():
        with tempfile.TemporaryDirectory() as directory:
            found = unpack_model(path, Path(directory), keys)
    else:
        raise UserError(f"{path}: no directory or zip file of a trained model")
    for task, key in zip(TASKS.values(), keys, strict=True):
        if key in found:
            return task
    raise UserError(f"{path}: is not the pack of a model of {', '.join(TASKS)}")


def unpack(path: Path, directory: Path, task: Task) -> dict[str, Path]:
    """Unpack a model of a task.

    Args:
        path: of stage 14 or `espnet2.bin.pack`.
        directory: where to unpack what the model needs.
        task: that it is of.

    Returns:
        `<model>_train_config` and `<model>_model_file`, and those of a packed language model.

    Raises:
        UserError: it is not whole, not such a pack, or too large unpacked.
    """
    return _of_task(unpack_model(path, directory, _keys(task)), path, task)


def _keys(task: Task) -> tuple[str, ...]:
    """Return the keys of a pack that a model of a task has; the first two are needed."""
    lms = ("lm_train_config", "lm_file")
    return f"{task.model}_train_config", f"{task.model}_model_file", *lms


def _of_task(found: dict[str, Path], path: Path, task: Task) -> dict[str, Path]:
    """Return the files of a pack, which must be one of the task."""
    for key in _keys(task)[:2]:
        if key not in found:
            raise UserError(f"{path}: has no {key}: not the pack of {task.does}")
    return found


def load_model(
    espnet_task: type, train_config: Path, model_file: Path, task: Task | None = None
) -> tuple[torch.nn.Module, argparse.Namespace]:
    """Build a model and read its parameters.

    Args:
        espnet_task: ESPnet's class of the task.
        train_config: the `config.yaml` that training wrote. Files that it names are looked
            for in the directories above it.
        model_file: parameters, saved by `torch.save`.
        task: that the configuration is checked to be of; None: a language model's.

    Returns:
        The model on the CPU, for evaluation, and the arguments of its training.

    Raises:
        UserError: a file is missing, corrupt, or of another model or task.
    """
    config = read_config(train_config, home_of(Path(train_config)))
    arguments = argparse.Namespace(**config)
    found = task_of(config)
    if task is not None and found.model != task.model:
        raise UserError(f"{train_config}: is of a model of {found.does}, not of {task.does}")
    weights = read_parameters(model_file)
    bound = no_larger_than(weights, model_file, train_config)
    model = build_model(espnet_task, arguments, train_config, bound)
    check_parameters(model_file, train_config, weights, model, arguments.token_list)
    model.load_state_dict(weights)
    return model.eval(), arguments


def build_model(
    espnet_task: type,
    arguments: argparse.Namespace,
    source: Path | str,
    bound: contextlib.AbstractContextManager | None = None,
) -> torch.nn.Module:
    """Build a model by the arguments of its training; nothing that comes with it runs.

    Args:
        espnet_task: ESPnet's class of the task.
        arguments: of the training; its parameters are read later, not drawn.
        source: the configuration that holds them, for messages.
        bound: of what is allocated; None: there is none.

    Returns:
        The model on the CPU, with parameters that say nothing.

    Raises:
        UserError: there is no such model, or it is beyond the bound.
    """
    config = vars(arguments)
    check_config(config, source)
    check_choices(config, _choices(espnet_task, config), source)
    arguments.init = None
    with (
        bound or contextlib.nullcontext(),
        reading(source, "no model can be built by it"),
        nothing_runs(source),
    ):
        return espnet_task.build_model(arguments)


def _choices(task, config: Mapping) -> dict:
    """Return the classes that a configuration may choose, where it lets choose."""
    from mtla_espnet.tasks.choices import class_choices  # here: ESPnet takes long to import

    # with a size, ESPnet leaves the front end out; older ESPnets know fewer classes
    unused = {"frontend"} if config.get("input_size") is not None else set()
    choices = class_choices(task)
    return {key: choices[key] for key in choices.keys() & config.keys() - unused}


def read_config(path: Path, home: Path | None = None) -> dict:
    """Read a training configuration and make the paths in it absolute.

    Args:
        path: the `config.yaml` that training wrote.
        home: the directory that files which it names must be in; None: any, see
            `mtla_espnet.inference.named_files.home_of`.

    Raises:
        UserError: it is missing or not a configuration, or a file that it names is missing or
            lies elsewhere.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file (train the model first)")
    config = read_yaml(path)
    if isinstance(config, dict) and isinstance(config.get("token_list"), str):
        config["token_list"] = _listed_tokens(config["token_list"], path)  # espnet3 names a file
    if not isinstance(config, dict) or not isinstance(config.get("token_list"), list):
        raise UserError(f"{path}: not a configuration that ESPnet's training wrote")
    resolve_files(config, path, home)
    return config


def _listed_tokens(name: str, path: Path) -> list[str]:
    found = find_file(name, path)
    if found is None:
        raise UserError(f"{path}: names {name}, which is not there: not in a directory above it")
    return read_text(found).splitlines()
