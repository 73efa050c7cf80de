"""The decoding configuration that is kept beside a model, so that every use of it decodes alike."""

from collections.abc import Collection
from pathlib import Path

from mtla_espnet.config import check_keys
from mtla_espnet.files import UserError
from mtla_espnet.inference.named_files import find_file
from mtla_espnet.yaml_files import load_yaml

# In the directory of the model's `config.yaml`, and so in its pack.
FILE = "inference.yaml"
# Options that name files.
FILES = ("lm_train_config", "lm_file", "ngram_file")


def read_decoding_config(path: Path, legal: Collection[str]) -> dict:
    """Read a decoding configuration.

    Args:
        path: YAML.
        legal: the options that there are.

    Raises:
        UserError: it is missing or no YAML, or has another option.
    """
    config = load_yaml(path)
    check_keys(config, sorted(legal), str(path))
    return config


def kept_config(train_config: Path, legal: Collection[str]) -> dict:
    """Return what the recipe decoded with; empty where nothing is kept.

    Args:
        train_config: the `config.yaml` of the model.
        legal: the options that there are.

    Raises:
        UserError: it is no YAML or has another option, or a file that it names is not there.
    """
    path = Path(train_config).with_name(FILE)
    if not path.is_file():
        return {}
    config = read_decoding_config(path, legal)
    for name in FILES:
        if name not in config:
            continue
        found = find_file(str(config[name]), path)
        if found is None:
            raise UserError(
                f"{path}: {name}: {config[name]} is not there: not in a directory above it. Stage "
                "14 packs a model with all its files"
            )
        config[name] = str(found)
    return config
