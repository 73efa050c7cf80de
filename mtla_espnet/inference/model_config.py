"""Values of a trained model's configuration that the classes of a model do not check themselves."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import humanfriendly
import numpy as np

from mtla_espnet.files import UserError, check_file, reading

_LEAST_RATE_HZ, _MOST_RATE_HZ = 100, 1_000_000
# Elements of a matrix of Mel filters: n_mels x n_fft.
_MOST_FILTERS = 1 << 24
_MOST_STATISTICS_BYTES = 64 << 20
_STATISTICS = ("count", "sum", "sum_square")


def check_config(config: Mapping, source: Path) -> None:
    """Check the token list, sizes of the front end, and statistics.

    Args:
        config: of `mtla_espnet.inference.model_files.read_config`.
        source: its file, for messages.

    Raises:
        UserError: a value cannot be; names the key.
    """
    for key in ("token_list", "src_token_list"):
        tokens = config.get(key)
        if tokens is None:
            continue
        if not isinstance(tokens, list) or not tokens:
            raise UserError(f"{source}: {key} must list the tokens")
        odd = [token for token in tokens if not isinstance(token, str)]
        if odd:
            raise UserError(f"{source}: {key}: {odd[0]!r} is not text")
    if config.get("input_size") is None:
        _check_frontend(config.get("frontend_conf") or {}, source)
    statistics = (config.get("normalize_conf") or {}).get("stats_file")
    if config.get("normalize") == "global_mvn" and statistics is not None:
        _check_statistics(Path(statistics))


def rate_of(config: Mapping, source: Path | str) -> int:
    """Return the sampling rate in Hz that a front end expects; 16 kHz is ESPnet's default.

    Args:
        config: options of the front end.
        source: the file that holds them, for messages.

    Raises:
        UserError: it is no rate.
    """
    value = config.get("fs", 16000)
    with reading(f"{source}: frontend_conf.fs", "not a sampling rate"):
        rate_hz = value if isinstance(value, int) else humanfriendly.parse_size(value)
    if not _LEAST_RATE_HZ <= rate_hz <= _MOST_RATE_HZ:
        raise UserError(
            f"{source}: frontend_conf.fs: {value!r} is not a sampling rate from "
            f"{_LEAST_RATE_HZ} to {_MOST_RATE_HZ} Hz"
        )
    return rate_hz


def _check_frontend(conf: object, source: Path) -> None:
    if not isinstance(conf, Mapping):
        raise UserError(f"{source}: frontend_conf must hold `key: value` lines, not {conf!r}")
    rate_of(conf, source)
    sizes = {name: conf.get(name) or 1 for name in ("n_fft", "n_mels", "win_length", "hop_length")}
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1 or size * sizes["n_mels"] > _MOST_FILTERS:
            raise UserError(f"{source}: frontend_conf.{name}: {size!r} cannot be")


def _check_statistics(path: Path) -> None:
    """Refuse what `global_mvn` could not read, or should not."""
    check_file(path)
    with reading(path, "not the statistics of stage 10"):
        unpacked = path.stat().st_size
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > _MOST_STATISTICS_BYTES:
            raise UserError(f"{path}: not the statistics of stage 10: {unpacked >> 20} MiB")
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            for name in _STATISTICS:
                found[name]
