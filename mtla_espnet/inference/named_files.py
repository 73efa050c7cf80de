"""The files that a model's configuration names, and where they may be.

A model from elsewhere names files of its own directory alone: of its pack, or of the tree that
its experiment lies in. Experiments of this checkout may name any file.
"""

import contextlib
import contextvars
import os
import re
from collections.abc import Iterator
from pathlib import Path

import mtla_espnet
from mtla_espnet.files import UserError
from mtla_espnet.trust import are_files_trusted

# Files without which there is no model.
_NEEDED = (("bpemodel",), ("src_bpemodel",), ("normalize_conf", "stats_file"))
# What is not there may be a name on a hub or a URL of a pretrained encoder, or is not needed.
_OPTIONAL = (
    ("non_linguistic_symbols",),
    ("frontend_conf", "model"),
    ("frontend_conf", "frontend_conf", "path_or_url"),
)
# Places where libraries keep what they fetch: a model from elsewhere does not choose them.
_PLACES = frozenset(("download_dir", "cache_dir"))
# Settings of a training, by which no model is built.
_TRAINING = re.compile(r"(optim|scheduler|iterator|dataset|adapter|wandb)\w*_conf")
_UNPACKED, _DOWNLOADED = "meta.yaml", "download.json"
# An experiment is at most so far below the directory of its recipe: exp/<name>.
_LEVELS = 3
_own: contextvars.ContextVar[tuple[Path, ...]] = contextvars.ContextVar("own", default=())


@contextlib.contextmanager
def own_experiments(recipe: str | os.PathLike) -> Iterator[None]:
    """Let the experiments of a recipe that runs inside name any file, but for downloaded ones."""
    token = _own.set((*_own.get(), Path(recipe).resolve()))
    try:
        yield
    finally:
        _own.reset(token)


def home_of(config: Path) -> Path | None:
    """Return the directory that the files of a model from elsewhere must lie in.

    Args:
        config: its `config.yaml`.

    Returns:
        Of a pack: the directory that it was unpacked to. Of an experiment from elsewhere: the
        second directory above it, where recipes have theirs. None: any file will do, since it
        is an experiment of this checkout, of the recipe that runs or of that in the current
        directory, or the user trusts the files.
    """
    if are_files_trusted():
        return None
    above = [path.resolve() for path in config.absolute().parents]
    for path in above[:_LEVELS]:
        if (path / _DOWNLOADED).is_file():
            return path
    for path in above:
        if (path / _UNPACKED).is_file():
            # a hub's cache keeps what is in its snapshots beside them, and links it
            return path.parents[1] if path.parent.name == "snapshots" else path
    here = Path.cwd()
    checkout = Path(mtla_espnet.__file__).resolve().parents[1]
    own = [*_own.get(), *(path for path in (checkout,) if (path / "egs2").is_dir())]
    own += [path for path in (here,) if (path / "run.sh").is_file()]
    if any(path in above for path in own):
        return None
    home = above[min(_LEVELS, len(above)) - 1]
    return above[0] if home in (Path(home.anchor), Path.home()) else home


def resolve_files(config: dict, path: Path, home: Path | None) -> None:
    """Make the paths in a configuration absolute, and check where they lead.

    Args:
        config: of `path`; it is changed.
        path: the `config.yaml`. Files that it names are looked for in the directories above
            it, up to its home.
        home: the directory that they must lie in, of `home_of`; None: any file will do.

    Raises:
        UserError: a file is missing, or lies outside of the model's home.
    """
    for section, key, where in _texts(config):
        value = section[key]
        keys = tuple(where.split("."))
        is_file = keys in _NEEDED or keys in _OPTIONAL
        if home is None and not is_file:
            continue
        if home is not None and key in _PLACES:
            section[key] = None
            continue
        looks_like_one = is_file or "/" in value or "." in value
        found = _find(value, path, home) if looks_like_one else None
        if found is not None:
            section[key] = str(found)
        elif keys in _NEEDED:
            raise UserError(
                f"{path}: names {value}, which is not there: not in a directory above it; stage "
                "14 packs a model with all its files"
            )
        elif home is not None and looks_like_one and _leads_out(value):
            raise UserError(
                f"{path}: {where}: {value} is not a file of the model: what is from elsewhere "
                "names files of its own directory alone (--trust_files true allows others)"
            )


def find_file(name: str, config: Path) -> Path | None:
    """Find a file that is named relative to a directory above a configuration.

    Args:
        name: of the file.
        config: the configuration, in the directory of the model.

    Returns:
        None: it is not there, or lies where files of the model may not be.
    """
    return _find(name, config, home_of(config))


def _texts(value, where: str = "") -> Iterator[tuple[dict | list, str | int, str]]:
    """Yield the texts of what a model is built by: holder, key or index, dotted path."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(entries):
        name = f"{where}.{key}" if where else str(key)
        if not where and not _builds(name):
            continue
        if isinstance(inner, str):
            yield value, key, name
        elif isinstance(inner, dict | list):
            yield from _texts(inner, name)


def _builds(name: str) -> bool:
    files = {keys[0] for keys in (*_NEEDED, *_OPTIONAL)}
    return name in files or (name.endswith("_conf") and not _TRAINING.fullmatch(name))


def _find(name: str, config: Path, home: Path | None) -> Path | None:
    """Find what is given relative to the recipe's directory, which is above `config`."""
    above = config.absolute().parents
    candidates = [directory / name.lstrip("/") for directory in above]
    if home is None:
        candidates.insert(0, Path(name))
    else:
        home = home.resolve()
        candidates = [each for each, directory in zip(candidates, above, strict=True)
                      if directory.resolve().is_relative_to(home)]  # fmt: skip
        if Path(name).is_absolute():
            candidates.append(Path(name))
    for candidate in candidates:
        if not name or not _exists(candidate):
            continue
        if home is None or candidate.resolve().is_relative_to(home):
            return candidate.absolute()
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _leads_out(name: str) -> bool:
    """Tell whether a name that is no file of the model would lead a library somewhere else."""
    outside = name.startswith(("/", "~", "file:")) or ".." in name.split("/") or "://" in name
    return outside or _exists(Path(name))
