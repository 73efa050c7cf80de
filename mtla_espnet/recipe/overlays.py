"""What is laid over a training configuration: files that options name."""

from pathlib import Path

from mtla_espnet.files import UserError


def find_overlay(root: Path, option: str, name: str) -> Path | None:
    """Return the file that an option names: a file, the recipe's or the checkout's.

    Args:
        root: the recipe's directory.
        option: `attention` or `frontend`, also a folder in `conf/`.
        name: its value; empty: there is no overlay.

    Raises:
        UserError: there is none of that name; names the overlays that exist.
    """
    if not name:
        return None
    if (root / name).is_file():
        return root / name
    folders = [root / "conf" / option, root / "../../../conf" / option]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise UserError(
        f"--{option} {name}: no such file, and no such name (known: {', '.join(known)})", 2
    )
