"""Packs of stage 14 and of `espnet2.bin.pack`: zip files of a trained model.

Only what a model needs is unpacked: `meta.yaml`, the files that it names, and what their
configurations name. Sizes are looked at first.
"""

import posixpath
import zipfile
from collections.abc import Container, Iterable, Iterator
from pathlib import Path, PurePosixPath

from mtla_espnet.files import UserError, check_file, reading
from mtla_espnet.yaml_files import parse_yaml, read_yaml

# Weights hardly compress. So much more than a pack's own size is no model.
MOST_TIMES = 10
SPARE_BYTES = 64 << 20
# What stage 14 packs in the directory of a model's configuration.
BESIDE = ("inference.yaml", "extractor.yaml")
_MOST_META_BYTES = 1 << 20
_MOST_CONFIG_BYTES = 16 << 20
_LONGEST_NAME = 4096
_MOST_LEVELS = 16
_TOKENS = frozenset(("token_list", "src_token_list"))


def unpack_model(path: Path, directory: Path, wanted: Iterable[str]) -> dict[str, Path]:
    """Unpack the files of a model; their names lead nowhere but into the directory.

    At most `MOST_TIMES` the size of the pack, and `SPARE_BYTES`, are written.

    Args:
        path: of stage 14 or `espnet2.bin.pack`.
        directory: where to unpack.
        wanted: keys of `meta.yaml`, such as `asr_train_config`.

    Returns:
        Those of `wanted` that are there: key -> file.

    Raises:
        UserError: it is not a whole pack, its `meta.yaml` is not that of one, or it would
            become larger than the bound.
    """
    check_file(path)
    with reading(path, "not a whole pack of espnet2.bin.pack"):
        with zipfile.ZipFile(path) as archive:
            return _Pack(path, archive, directory).unpack(wanted)


def unpacked_model(directory: Path, wanted: Iterable[str]) -> dict[str, Path]:
    """Find the files of a model in the directory that its pack was unpacked to.

    Args:
        directory: with the pack's `meta.yaml`.
        wanted: keys of it, such as `asr_train_config`.

    Returns:
        Those of `wanted` that are there: key -> file.

    Raises:
        UserError: its `meta.yaml` is not that of a pack, or names what is not there.
    """
    listed = _listed(directory)
    found = {}
    for key in wanted:
        if key in listed:
            found[key] = directory / posixpath.normpath(str(listed[key]).lstrip("/"))
            inside = found[key].resolve().is_relative_to(directory.resolve())
            if not inside or not found[key].is_file():
                shown = str(listed[key])[:200]
                raise UserError(f"{directory}: meta.yaml: {key} names {shown!r}: not in the pack")
    return found


class _Pack:
    def __init__(self, path: Path, archive: zipfile.ZipFile, directory: Path):
        self._path, self._archive, self._directory = path, archive, directory
        names = ((posixpath.normpath(each.filename), each) for each in archive.infolist())
        self._members = {
            name: info
            for name, info in names
            if not info.is_dir() and len(name) <= _LONGEST_NAME and not name.startswith(("/", ".."))
        }
        self._left_bytes = MOST_TIMES * path.stat().st_size + SPARE_BYTES

    def unpack(self, wanted: Iterable[str]) -> dict[str, Path]:
        """Write the wanted files, by their keys in `meta.yaml`, and what belongs beside them."""
        self._extract(["meta.yaml"], _MOST_META_BYTES)
        listed = _listed(self._directory, self._path)
        names = {key: self._member(key, listed[key]) for key in wanted if key in listed}
        configs = [name for key, name in names.items() if key.endswith("_config")]
        configs += [
            beside
            for name in tuple(configs)
            for beside in (posixpath.join(posixpath.dirname(name), each) for each in BESIDE)
            if beside in self._members
        ]
        self._extract(configs, _MOST_CONFIG_BYTES)
        named: set[str] = set()
        for config in configs:
            bases = [*map(str, PurePosixPath(config).parents[:_MOST_LEVELS]), "."]
            for text in set(_texts(read_yaml(self._directory / config))):
                if len(text) <= _LONGEST_NAME:
                    named |= {posixpath.normpath(f"{base}/{text}") for base in bases}
            named -= set(bases)  # the directory of the experiment is no part of the model
        needed = {name for name in self._members if _is_or_is_below(name, named)}
        self._extract(sorted((needed | set(names.values())) - set(configs)))
        return {key: self._directory / name for key, name in names.items()}

    def _member(self, key: str, name: object) -> str:
        # names of files that were packed from elsewhere are absolute, their members are not
        member = posixpath.normpath(name.lstrip("/")) if isinstance(name, str) else None
        if member not in self._members:
            shown = str(name)[:200]
            raise UserError(f"{self._path}: meta.yaml: {key} names {shown!r}: not in the pack")
        return member

    def _extract(self, names: Iterable[str], most_bytes: int | None = None) -> None:
        """Write members.

        Raises:
            UserError: there is none of that name, or it is too large.
        """
        for name in names:
            if name not in self._members:
                raise UserError(f"{self._path}: not a whole pack of espnet2.bin.pack: no {name}")
            info = self._members[name]
            most = self._left_bytes if most_bytes is None else min(most_bytes, self._left_bytes)
            if info.file_size > most:
                raise UserError(
                    f"{self._path}: {name} is too large to unpack: {info.file_size >> 20} MiB; "
                    f"a model takes at most {MOST_TIMES} times its pack and "
                    f"{SPARE_BYTES >> 20} MiB"
                )
            self._left_bytes -= info.file_size
            target = self._directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._archive.open(info) as source, open(target, "wb") as stream:
                for block in iter(lambda: source.read(1 << 20), b""):
                    stream.write(block)


def _listed(directory: Path, pack: Path | None = None) -> dict:
    """Return what the `meta.yaml` of a directory lists: key -> name.

    Args:
        directory: that the pack was unpacked to.
        pack: for messages; None: the directory.
    """
    where = f"{pack or directory}: its meta.yaml is not that of espnet2.bin.pack"
    content = (directory / "meta.yaml").read_bytes()
    with reading(where, "not UTF-8 text"):
        text = content.decode("utf-8")
    meta = parse_yaml(text, where)
    parts = [meta.get(key) for key in ("yaml_files", "files")] if isinstance(meta, dict) else []
    if len(parts) != 2 or not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{where}: it has no yaml_files and files")
    return parts[0] | parts[1]


def _is_or_is_below(name: str, named: Container[str]) -> bool:
    return name in named or any(str(above) in named for above in PurePosixPath(name).parents[:-1])


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in _TOKENS:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
