"""JSON files, whole ones only, and short digests of what they could hold."""

import hashlib
import json
import os

from mtla_espnet.files import read_text, reading, write_text


def write_json(path: str | os.PathLike, value) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike):
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, where: str | os.PathLike, what: str = "a JSON file"):
    """Return the value of a JSON text.

    Args:
        text: the text.
        where: file, or `file:line`, for messages.
        what: it should be, for messages.

    Raises:
        UserError: it is not JSON, or is nested too deeply.
    """
    with reading(where, f"not {what}"):
        return json.loads(text)


def digest(value) -> str:
    """Return a short SHA-256 of a JSON-able value (options, file stamps)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
