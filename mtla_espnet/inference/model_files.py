"""From the files of a trained model to the model: an experiment's directory, or a pack of it."""

import argparse
import contextlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import yaml

from mtla_espnet.files import UserError

MODEL_FILES = ("valid.acc.ave.pth", "valid.acc.best.pth", "latest.pth")

# Files that ESPnet's config.yaml names by paths relative to the recipe's directory.
_CONFIG_PATHS = (("bpemodel",), ("src_bpemodel",), ("normalize_conf", "stats_file"))
# What is not there may be a name on a hub or a URL of a pretrained encoder, or is not needed.
_OPTIONAL_PATHS = (
    ("non_linguistic_symbols",),
    ("frontend_conf", "model"),
    ("frontend_conf", "frontend_conf", "path_or_url"),
)
# Keys that only one task's configurations have, as ESPnet's training writes them.
_TASK_KEYS = {"st": "st_joint_net_conf", "mt": "src_token_list", "slu": "deliberationencoder"}
_TASK_NAMES = {
    "asr": "speech recognition",
    "st": "speech translation",
    "slu": "spoken language understanding",
    "mt": "text to text",
}


@contextlib.contextmanager
def model_files(path: Path, task: str = "asr") -> Iterator[dict[str, Path]]:
    """Find the configuration and the parameters of a trained model.

    Args:
        path: an experiment's directory with `config.yaml` and one of `MODEL_FILES`, or a zip
            file of stage 14 or `espnet2.bin.pack`.
        task: ESPnet's name of its task.

    Yields:
        `<task>_train_config` and `<task>_model_file`, and those of a packed language model.
        The files of a pack are there inside the block only.

    Raises:
        UserError: it is neither, or lacks a file.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "config.yaml").is_file():
            raise UserError(f"{path}: has no config.yaml: not the directory of a trained model")
        model_file = next((path / name for name in MODEL_FILES if (path / name).is_file()), None)
        if model_file is None:
            raise UserError(f"{path}: has none of {', '.join(MODEL_FILES)}: train it first")
        yield {f"{task}_train_config": path / "config.yaml", f"{task}_model_file": model_file}
        return
    if not path.is_file():
        raise UserError(f"{path}: no such directory or zip file of a trained model")
    with tempfile.TemporaryDirectory() as directory:
        yield unpack_model(path, Path(directory), task)


def unpack_model(path: Path, directory: Path, task: str) -> dict[str, Path]:
    """Unpack a zip file; names in it lead nowhere but into the directory.

    Args:
        path: of stage 14 or `espnet2.bin.pack`.
        directory: where to unpack.
        task: ESPnet's name of its task.

    Returns:
        `<task>_train_config` and `<task>_model_file`, and those of a packed language model.

    Raises:
        UserError: it is not whole, or not such a pack.
    """
    needed = (f"{task}_train_config", f"{task}_model_file")
    wanted = (*needed, "lm_train_config", "lm_file")
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(directory)
        listed = yaml.safe_load((directory / "meta.yaml").read_text(encoding="utf-8"))
        # names of files that were packed from elsewhere are absolute, their members are not
        names = {**listed["yaml_files"], **listed["files"]}
        found = {key: directory / str(names[key]).lstrip("/") for key in wanted if key in names}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError) as error:
        why = " ".join(str(error).replace(f"{directory}/", "").split())
        raise UserError(f"{path}: not a whole pack of espnet2.bin.pack ({why})") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise UserError(f"{path}: its meta.yaml is not that of espnet2.bin.pack") from None
    for key in needed:
        if key not in found or not found[key].is_file():
            raise UserError(f"{path}: has no {key}: not the pack of {_TASK_NAMES[task]}")
    return found


def load_model(
    task, train_config: Path, model_file: Path, name: str | None = None
) -> tuple[torch.nn.Module, argparse.Namespace]:
    """Build a model and read its parameters.

    Args:
        task: ESPnet's task class.
        train_config: the `config.yaml` that training wrote. Files that it names are looked
            for in the directories above it.
        model_file: parameters, saved by `torch.save`.
        name: ESPnet's name of the task, which the configuration is checked to be of.

    Returns:
        The model on the CPU, for evaluation, and the arguments of its training.

    Raises:
        UserError: a file is missing, corrupt, or of another model or task.
    """
    arguments = argparse.Namespace(**read_config(train_config))
    if name is not None and task_of(vars(arguments)) != name:
        found = _TASK_NAMES[task_of(vars(arguments))]
        raise UserError(f"{train_config}: is of a model of {found}, not of {_TASK_NAMES[name]}")
    weights = _read_parameters(model_file)
    arguments.init = None  # the parameters are read, not drawn
    model = task.build_model(arguments)
    expected = model.state_dict()
    for name, value in expected.items():
        if name not in weights:
            raise UserError(f"{model_file}: not a model of {train_config}: it has no {name!r}")
        _check_shape(model_file, train_config, name, weights[name], value, arguments.token_list)
    unknown = weights.keys() - expected.keys()
    if unknown:
        raise UserError(
            f"{model_file}: not a model of {train_config}, which has no {min(unknown)!r}"
        )
    model.load_state_dict(weights)
    return model.eval(), arguments


def task_of(config: Mapping) -> str:
    """Return the task of a configuration that training wrote: asr, st, slu or mt.

    Example:
        >>> task_of({"token_list": ["a"], "src_token_list": ["b"]})
        'mt'
    """
    return next((task for task, key in _TASK_KEYS.items() if key in config), "asr")


def _check_shape(model_file, train_config, name, found, expected, token_list) -> None:
    if found.shape == expected.shape:
        return
    tokens = len(token_list)
    if expected.dim() and expected.size(0) == tokens and found.shape[1:] == expected.shape[1:]:
        raise UserError(
            f"{model_file}: was trained with {found.size(0)} tokens, "
            f"but {train_config} lists {tokens}"
        )
    raise UserError(
        f"{model_file}: not a model of {train_config}: {name!r} has the shape "
        f"{tuple(found.shape)} instead of {tuple(expected.shape)}"
    )


def read_config(path: Path) -> dict:
    """Read a training configuration and make the paths in it absolute.

    Raises:
        UserError: it is missing or not a configuration, or a file that it names is missing.
    """
    path = Path(path)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file (train the model first)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict) or not isinstance(config.get("token_list"), list):
        raise UserError(f"{path}: not a configuration that ESPnet's training wrote")
    for *parents, name in (*_CONFIG_PATHS, *_OPTIONAL_PATHS):
        section = config
        for parent in parents:
            section = section.get(parent) or {}
        if section.get(name) is None:
            continue
        found = _find(str(section[name]), path)
        if found is not None:
            section[name] = str(found)
        elif (*parents, name) in _CONFIG_PATHS:
            raise UserError(
                f"{path}: names {section[name]}, which is not there: not in a directory above it"
            )
    return config


def _find(name: str, config: Path) -> Path | None:
    """Find what is given relative to the recipe's directory, which is above `config`."""
    directories = [directory / name.lstrip("/") for directory in config.absolute().parents]
    for candidate in (Path(name), *directories):
        if name and candidate.exists():
            return candidate.absolute()
    return None


def _read_parameters(path: Path) -> dict[str, torch.Tensor]:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such model file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever the unpickler stumbles over first
        raise UserError(
            f"{path}: not a whole model file of PyTorch; train or copy it again"
        ) from None
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise UserError(f"{path}: holds no model parameters alone (a checkpoint of training?)")
    return state
