"""A trained model from elsewhere (`--download_model`), laid out as an experiment of the recipe.

Its name is that of a zip file of stage 14 or `espnet2.bin.pack`, or one that ESPnet's model zoo
knows: a repository of the Hugging Face hub, OWNER/NAME, or an address.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.files import UserError, check_file, write_text
from mtla_espnet.jobs.lock import directory_lock
from mtla_espnet.jobs.log import say
from mtla_espnet.jobs.marks import file_digest
from mtla_espnet.json_files import read_json, write_json
from mtla_espnet.network import unreachable_on_hub
from mtla_espnet.task import TASKS
from mtla_espnet.task.record import Task
from mtla_espnet.trust import are_files_trusted
from mtla_espnet.yaml_files import dump_yaml

_RECORD = "download.json"
# Stages that make what a downloaded model brings along.
_MAKES_A_MODEL = {5, 6, 7, 8, 9, 10, 11}


def use_downloaded(options: SimpleNamespace, root: Path, stages: Iterable[int]) -> None:
    """Fetch the model that `--download_model` names, once, and set the options that name it.

    In `<expdir>/<name>`: `config.yaml`, the model, `tokens/`, and `lm/` where there is a
    language model.

    Args:
        options: of the recipe; those of experiment, model, tokens and language model are set.
        root: the recipe's directory.
        stages: numbers of those that will run.

    Raises:
        UserError: it cannot be fetched or is not such a model, or a stage would train one.
    """
    task = TASKS[options.task]
    trained = sorted(_MAKES_A_MODEL & set(stages))
    if trained:
        raise UserError(
            f"--download_model brings a trained model, and stage {trained[0]} would make one: "
            "add --skip_train true",
            2,
        )
    name = options.download_model
    local = root / name
    place = f"{options.expdir}/{Path(name).stem if local.is_file() else name}"
    wanted = {"name": name, "digest": file_digest(local) if local.is_file() else None}
    record = _record_of(root / place, wanted)
    if record is None:
        with directory_lock(root / place):
            record = _record_of(root / place, wanted) or _lay_out(wanted, local, root / place, task)
    vars(options).update(
        {
            f"{task.model}_exp": place,
            f"inference_{task.model}_model": record["model"],
            f"{task.sides[0]}token_type": record["token_type"],
            "downloaded_tokens": f"{place}/tokens",
        }
    )
    if record["lm"]:
        options.lm_exp, options.inference_lm = f"{place}/lm", record["lm"]


def _record_of(directory: Path, wanted: Mapping) -> dict | None:
    """Return the record of a model that is there already."""
    if not (directory / _RECORD).exists():
        return None
    record = read_json(directory / _RECORD)
    return record if wanted.items() <= record.items() else None


def _lay_out(wanted: Mapping, local: Path, directory: Path, task: Task) -> dict:
    name = wanted["name"]
    say(f"Fetch the model {name}")
    files, model = _fetch(name, local, directory, task), task.model
    config = _read(files[f"{model}_train_config"], directory)
    write_text(directory / "config.yaml", dump_yaml(config))
    _link(directory, files[f"{model}_model_file"])
    tokens = "".join(f"{token}\n" for token in config["token_list"])
    write_text(directory / "tokens/tokens.txt", tokens)
    if config.get("bpemodel"):
        check_file(config["bpemodel"])
        shutil.copyfile(config["bpemodel"], directory / "tokens/bpe.model")
    lm = files.get("lm_file")
    if lm:
        lm_config = _read(files["lm_train_config"], directory)
        write_text(directory / "lm/config.yaml", dump_yaml(lm_config))
        _link(directory / "lm", lm)
    record = wanted | {
        "model": files[f"{model}_model_file"].name,
        "token_type": config.get("token_type"),
        "lm": lm and lm.name,
    }
    write_json(directory / _RECORD, record)
    return record


def _read(config: Path, directory: Path) -> dict:
    """Read a downloaded model's configuration, whose files must lie where it was laid out."""
    from mtla_espnet.inference.model_files import read_config  # here: it loads PyTorch
    from mtla_espnet.inference.named_files import home_of

    inside = config.absolute().is_relative_to(directory.absolute())
    home = directory.absolute() if inside else home_of(config)
    return read_config(config, None if are_files_trusted() else home)


def _link(directory: Path, file: Path) -> None:
    link = directory / file.name
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(file, directory))


def _fetch(name: str, local: Path, directory: Path, task: Task) -> dict[str, Path]:
    """Return argument of ESPnet's class -> file."""
    if local.is_file():
        from mtla_espnet.inference.model_files import unpack

        unpacked = directory / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        return unpack(local, unpacked, task)
    if name.endswith(".zip"):
        raise UserError(f"--download_model {name}: no such file", 2)
    try:
        from espnet_model_zoo.downloader import ModelDownloader
    except ImportError:
        raise UserError(
            f"--download_model {name}: no such file, and espnet_model_zoo, which could fetch a "
            "model of that name, is not installed: pip install espnet_model_zoo"
        ) from None
    if "/" in name and not (directory / "cache").exists() and (why := unreachable_on_hub(name)):
        raise UserError(f"--download_model {name}: cannot be fetched: {why}")
    try:
        found = ModelDownloader(directory / "cache").download_and_unpack(name)
    except Exception as error:  # of whatever library it fetches by
        why = " ".join(str(error).split())
        raise UserError(f"--download_model {name}: cannot be fetched: {why}") from None
    if f"{task.model}_model_file" not in found:
        raise UserError(f"--download_model {name}: has no {task.model}_model_file: another task's")
    return {key: Path(value) for key, value in found.items() if isinstance(value, str)}
