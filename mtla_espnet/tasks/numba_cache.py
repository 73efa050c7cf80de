"""A place for what numba compiles, where a user may write neither the environment nor a home."""

import atexit
import importlib.util
import os
import tempfile
from pathlib import Path

_VARIABLE = "NUMBA_CACHE_DIR"


def give_a_place() -> None:
    """Name a directory of this process to numba where there is none that it could use.

    ESPnet imports librosa, which keeps compiled functions beside its files or in the user's
    cache, and cannot be imported where it may write in neither: in a container that runs as
    another user. The directory is nobody else's, since what is in it is run, and is removed at
    the end.
    """
    librosa = importlib.util.find_spec("librosa")
    if librosa is None or _VARIABLE in os.environ:
        return
    beside = Path(librosa.origin).parent / "__pycache__"
    of_user = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if not any(map(_may_write, (beside, of_user))):
        directory = tempfile.TemporaryDirectory(prefix="numba-")
        atexit.register(directory.cleanup)
        os.environ[_VARIABLE] = directory.name


def _may_write(path: Path) -> bool:
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    return os.access(existing, os.W_OK)
