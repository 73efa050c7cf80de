"""What libraries ask of a user who has no home and no name, as a container may run one."""

import atexit
import getpass
import importlib.util
import os
import tempfile
from pathlib import Path

_NUMBA = "NUMBA_CACHE_DIR"


def give_what_is_missing() -> None:
    """Set environment variables without which libraries cannot be imported; mostly none.

    PyTorch's compiler asks for the user's name, others for a home directory. librosa, which
    ESPnet imports, keeps functions that numba compiled beside its files or in the user's cache,
    and cannot be imported where it may write in neither. The directory that is given is nobody
    else's, since what is in it is run, and is removed at the end.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the second from Python 3.13 on
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    missing = [] if os.path.isabs(os.path.expanduser("~")) else ["HOME"]
    if not missing and _NUMBA not in os.environ and not _may_cache():
        missing = [_NUMBA]
    if missing:
        directory = tempfile.TemporaryDirectory(prefix="mtla-espnet-")
        atexit.register(directory.cleanup)
        os.environ |= dict.fromkeys(missing, directory.name)


def _may_cache() -> bool:
    """Say whether there is a place for what numba compiles of librosa."""
    of_user = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if _may_write(of_user):
        return True
    librosa = importlib.util.find_spec("librosa")
    return librosa is None or _may_write(Path(librosa.origin).parent / "__pycache__")


def _may_write(path: Path) -> bool:
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    return os.access(existing, os.W_OK)
