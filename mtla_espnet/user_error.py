"""The mistakes of a user: one line each."""

import unicodedata

_LONGEST_MESSAGE = 1000


class UserError(Exception):
    """A mistake in what the user gave; shown as one line, without a traceback.

    The message names the file and line, the utterance id or the YAML key, and
    says what to do. The command line turns it into `error: <message>` on
    stderr and exit code `exit_code`.

    Args:
        message: one line. Control characters and bytes of file names that are not UTF-8 are
            escaped; a message longer than 1000 characters loses its middle.
        exit_code: 1, or 2 for a wrong command line.
    """

    def __init__(self, message: str, exit_code: int = 1):
        shorter = cut(message, _LONGEST_MESSAGE)
        super().__init__(cut(printable(shorter), _LONGEST_MESSAGE))
        self.exit_code = exit_code


def printable(text: str) -> str:
    r"""Return `text` on one line that every UTF-8 terminal can show.

    Control characters, and the surrogates by which Python names bytes of a file name that are
    not UTF-8, are escaped.

    Example:
        >>> printable("a\nb\udcff c\u00e9")
        'a\\nb\\udcff cé'
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if _is_odd(character) else character
        for character in text
    )


def _is_odd(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def cut(text: str, longest: int) -> str:
    """Return `text` without its middle if it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 5]} ... {text[-end:]}"
