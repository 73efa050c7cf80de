"""The features that a model was trained on, made of audio when it is used.

A model on stored features was trained on the output of a front end that is no part of it.
What that was is kept as `extractor.yaml` beside the features, and then beside the model.
"""

from pathlib import Path

import humanfriendly

from mtla_espnet.config import check_keys
from mtla_espnet.data.features.format import EXTRACTOR_FILE, Extractor
from mtla_espnet.files import UserError
from mtla_espnet.inference.named_files import find_file
from mtla_espnet.trust import nothing_runs
from mtla_espnet.yaml_files import load_yaml

_KEYS = ("fs", "frontend", "frontend_conf", "layer")


def kept_extractor(train_config: Path) -> tuple[Extractor, int] | None:
    """Return what makes the features of a model, and the rate of the audio that it reads.

    Args:
        train_config: the `config.yaml` of the model.

    Returns:
        None: nothing is kept.

    Raises:
        UserError: what is kept is wrong, or the front end cannot be loaded.
    """
    path = Path(train_config).with_name(EXTRACTOR_FILE)
    if not path.is_file():
        return None
    config = load_yaml(path)
    check_keys(config, _KEYS, str(path))
    try:
        kind, conf, rate_hz = (config[name] for name in ("frontend", "frontend_conf", "fs"))
        conf, rate_hz = _with_files(conf, path), humanfriendly.parse_size(str(rate_hz))
        with nothing_runs(path):
            return _extractor(kind, conf, config.get("layer")), rate_hz
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: names no front end that makes features ({error})") from None


def _with_files(conf: dict, path: Path) -> dict:
    """Return the options of a front end with the files that they name where they are."""
    inner = conf.get("frontend_conf")
    found = {name: find_file(str(conf[name]), path) for name in ("model",) if name in conf}
    if isinstance(inner, dict) and "path_or_url" in inner:
        file = find_file(str(inner["path_or_url"]), path)
        found["frontend_conf"] = inner | ({"path_or_url": str(file)} if file else {})
    # what is not there may be a name on a hub
    return conf | {name: value if isinstance(value, dict) else str(value)
                   for name, value in found.items() if value is not None}  # fmt: skip


def _extractor(kind: str, conf: dict, layer: int | None) -> Extractor:
    if kind == "fbank":
        from mtla_espnet.frontend.fbank import fbank_extractor  # here, as below: it loads ESPnet

        return fbank_extractor(**conf)
    from mtla_espnet.frontend.encoder_files import layer_extractor, load_encoder

    return layer_extractor(load_encoder(kind, conf).eval(), kind, layer)
