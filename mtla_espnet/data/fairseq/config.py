"""The `config.yaml` beside manifests of Fairseq S2T, in ESPnet's terms, as far as they apply."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mtla_espnet.files import UserError, atomic_path, open_file, read_text, reading
from mtla_espnet.yaml_files import load_yaml

# Keys that say how Fairseq reads data, which ESPnet's options say here.
_WITHOUT_EFFECT = {
    "sampling_alpha",
    "shuffle",
    "input_channels",
    "input_feat_per_channel",
    "sample_rate",
    "use_audio_input",
    "use_sample_rate",
    "src_vocab_filename",
    "src_bpe_tokenizer",
    "src_pre_tokenizer",
}
_USED = {
    "audio_root",
    "bpe_tokenizer",
    "feature_transforms",
    "global_cmvn",
    "specaugment",
    "transforms",
    "utterance_cmvn",
    "vocab_filename",
}
_TRANSFORMS = {"utterance_cmvn", "global_cmvn", "specaugment"}
_SPECAUGMENT = {
    "freq_mask_F",
    "freq_mask_N",
    "time_mask_N",
    "time_mask_T",
    "time_mask_p",
    "time_wrap_W",
}


@dataclasses.dataclass(frozen=True)
class FairseqConfig:
    """What of a `config.yaml` applies.

    Args:
        audio_root: where relative paths of manifests begin; None: not said.
        options: of an ESPnet training configuration: `specaug`, `normalize` and their
            `_conf`.
        global_cmvn: file of mean and standard deviation that features are normalised by.
        vocabulary: file of the dictionary: a piece and its count a line.
        bpe_model: sentencepiece model.
        unknown: keys that have no meaning here.
    """

    audio_root: Path | None = None
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    global_cmvn: Path | None = None
    vocabulary: Path | None = None
    bpe_model: Path | None = None
    unknown: tuple[str, ...] = ()


def read_fairseq_config(path: str | os.PathLike) -> FairseqConfig:
    """Read the `config.yaml` of a directory of manifests.

    Args:
        path: the file; relative paths in it begin at its directory.

    Raises:
        UserError: it is no YAML, or a value is of the wrong kind; names file and key.
    """
    path = Path(path)
    config = load_yaml(path)
    unknown = sorted(config.keys() - _USED - _WITHOUT_EFFECT)
    transforms = _transforms(config, path)
    unknown += sorted(f"transforms: {name}" for name in transforms - _TRANSFORMS)
    options: dict[str, object] = {}
    if "specaugment" in transforms:
        specaugment = _mapping(config, "specaugment", path)
        unknown += sorted(f"specaugment.{key}" for key in specaugment.keys() - _SPECAUGMENT)
        options |= _specaug(specaugment, path)
    statistics = None
    if "global_cmvn" in transforms:
        name = _mapping(config, "global_cmvn", path).get("stats_npz_path")
        statistics = _existing(path, "global_cmvn.stats_npz_path", name)
    elif "utterance_cmvn" in transforms:
        chosen = _mapping(config, "utterance_cmvn", path)
        norms = {key: chosen.get(key, True) for key in ("norm_means", "norm_vars")}
        unknown += sorted(f"utterance_cmvn.{key}" for key in chosen.keys() - norms.keys())
        options |= {"normalize": "utterance_mvn", "normalize_conf": norms}
    vocabulary, bpe_model = _vocabulary(config, path, unknown)
    root = config.get("audio_root")
    return FairseqConfig(
        audio_root=path.parent / root if root else None,
        options=options,
        global_cmvn=statistics,
        vocabulary=vocabulary,
        bpe_model=bpe_model,
        unknown=tuple(unknown),
    )


def write_global_cmvn(source: Path, target: Path) -> None:
    """Write Fairseq's mean and standard deviation as the sums that ESPnet's global_mvn reads.

    Args:
        source: an `.npz` with `mean` and `std`, (D,) each.
        target: an `.npz` with `count`, `sum` and `sum_square`.

    Raises:
        UserError: `source` has not these arrays.
    """
    with open_file(source) as stream, reading(source, "has no arrays mean and std"):
        with np.load(stream, allow_pickle=False) as arrays:
            mean, std = (arrays[name].astype(np.float64) for name in ("mean", "std"))
    with atomic_path(target) as path, open(path, "wb") as stream:
        np.savez(stream, count=1.0, sum=mean, sum_square=std**2 + mean**2)


def read_vocabulary(path: Path) -> list[str]:
    """Read the pieces of a Fairseq dictionary, `<piece> <count>` a line, in their order.

    Raises:
        UserError: it is missing, or a line is malformed; names the line.
    """
    lines = read_text(path).split("\n")
    pieces: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line and number == len(lines):
            continue
        piece, _, count = line.removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not piece or not count.isdecimal() or piece in pieces:
            raise UserError(f"{path}:{number}: is not `<piece> <count>` with a new piece: {line!r}")
        pieces[piece] = number
    return list(pieces)


def _transforms(config: Mapping, path: Path) -> set[str]:
    """Return the names of what training does to features."""
    found: set[str] = set()
    for key in ("transforms", "feature_transforms"):
        chosen = _mapping(config, key, path)
        # Fairseq looks for the split's own list, then _train, then *.
        names = chosen.get("_train", chosen.get("*", [])) or []
        if not isinstance(names, list):
            raise UserError(f"{path}: {key}: must hold lists of names")
        found |= set(map(str, names))
    return found


def _specaug(specaugment: Mapping, path: Path) -> dict[str, object]:
    sizes = {key: specaugment.get(key, 0) for key in _SPECAUGMENT}
    for key, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise UserError(f"{path}: specaugment.{key} must be a number from 0 on, not {value!r}")
    warp, freq, time = (
        sizes["time_wrap_W"],
        sizes["freq_mask_N"] and sizes["freq_mask_F"],
        sizes["time_mask_N"] and sizes["time_mask_T"] and sizes["time_mask_p"],
    )
    conf: dict[str, object] = {
        "apply_time_warp": bool(warp),
        "apply_freq_mask": bool(freq),
        "apply_time_mask": bool(time),
    }
    if warp:
        conf["time_warp_window"] = int(warp)
    if freq:
        conf["freq_mask_width_range"] = [0, int(sizes["freq_mask_F"])]
        conf["num_freq_mask"] = int(sizes["freq_mask_N"])
    if time:
        conf["time_mask_width_range"] = [0, int(sizes["time_mask_T"])]
        conf["num_time_mask"] = int(sizes["time_mask_N"])
    if not (warp or freq or time):
        return {}
    return {"specaug": "specaug", "specaug_conf": conf}


def _vocabulary(config: Mapping, path: Path, unknown: list[str]) -> tuple[Path | None, Path | None]:
    tokenizer = _mapping(config, "bpe_tokenizer", path)
    name = config.get("vocab_filename")
    if not tokenizer:
        if name:
            unknown.append("vocab_filename (without bpe_tokenizer)")
        return None, None
    if tokenizer.get("bpe") != "sentencepiece":
        unknown.append(f"bpe_tokenizer: {tokenizer.get('bpe')}")
        return None, None
    model = _existing(
        path, "bpe_tokenizer.sentencepiece_model", tokenizer.get("sentencepiece_model")
    )
    return _existing(path, "vocab_filename", name), model


def _existing(path: Path, key: str, name: object) -> Path:
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: {key} must name a file, not {name!r}")
    # Fairseq writes absolute paths; who moved the directory has the file beside it.
    for place in (path.parent / name, path.parent / Path(name).name):
        if place.is_file():
            return place
    raise UserError(f"{path}: {key}: {name}: no such file")


def _mapping(config: Mapping, key: str, path: Path) -> Mapping:
    value = config.get(key) or {}
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: {key} must hold `key: value` lines, not {value!r}")
    return value
