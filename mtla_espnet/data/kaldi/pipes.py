"""Commands in `wav.scp`, `sox a.wav -t wav - |`, which run only where the user allows it.

They are run without a shell: programs joined by `|`, with the words as they stand. So no
variable, wildcard or redirection of a shell has a meaning, and is refused.
"""

import shlex
import signal
import subprocess
import tempfile
from typing import BinaryIO

from mtla_espnet.files import UserError
from mtla_espnet.programs import start_program

_PUNCTUATION = "|&;<>()"
_EXPANSIONS = "$`"


def is_command(entry: str) -> bool:
    """Tell whether a value of `wav.scp` is a command.

    Example:
        >>> is_command("sox a.wav -t wav - |"), is_command("a.wav")
        (True, False)
    """
    return entry.rstrip().endswith("|")


def programs_of(entry: str) -> list[list[str]]:
    """Split a command into the words of its programs.

    Args:
        entry: a value of `wav.scp` that ends with `|`.

    Raises:
        UserError: it asks for more of a shell than `|`; names what.

    Example:
        >>> programs_of("sph2pipe -f wav 'a b.sph' | sox - -t wav - |")
        [['sph2pipe', '-f', 'wav', 'a b.sph'], ['sox', '-', '-t', 'wav', '-']]
    """
    lexer = shlex.shlex(entry, posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace_split = True
    lexer.commenters = ""
    programs: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word == "|":
                programs.append([])
            elif set(word) <= set(_PUNCTUATION) or set(word) & set(_EXPANSIONS):
                raise UserError(
                    f"`{entry}`: {word!r} needs a shell: only programs joined by | are run"
                )
            else:
                programs[-1].append(word)
    except ValueError as error:
        raise UserError(f"`{entry}`: {error}") from None
    if programs.pop() or not programs or not all(programs):
        raise UserError(f"`{entry}`: is not of the form `program arguments |`")
    return programs


def run_command(entry: str, output: BinaryIO) -> None:
    """Run a command and write what its last program prints.

    Args:
        entry: a command, `program arguments |`.
        output: an open file.

    Raises:
        UserError: it is no command that is run, a program is not there, or fails: gives the last
            line that it printed as an error.
    """
    programs = programs_of(entry)
    running: list[subprocess.Popen] = []
    with tempfile.TemporaryFile() as complaints:
        try:
            previous = subprocess.DEVNULL
            for place, words in enumerate(programs, 1):
                target = output if place == len(programs) else subprocess.PIPE
                process = start_program(words, stdin=previous, stdout=target, stderr=complaints)
                if running:
                    running[-1].stdout.close()  # so that it learns when its reader ends
                running.append(process)
                previous = process.stdout
        except OSError as error:
            raise UserError(f"`{entry}`: {words[0]}: {error.strerror}") from None
        finally:
            if len(running) < len(programs):
                for process in running:
                    process.kill()
            codes = [process.wait() for process in running]
        # A program whose reader has enough is ended by SIGPIPE, and that is no failure.
        allowed = [{0, -signal.SIGPIPE}] * (len(codes) - 1) + [{0}]
        for words, code, good in zip(programs, codes, allowed, strict=True):
            if code not in good:
                complaints.seek(0)
                lines = complaints.read().decode(errors="replace").split("\n")
                last = next((line.strip() for line in reversed(lines) if line.strip()), "")
                raise UserError(
                    f"`{entry}`: {words[0]} failed with exit code {code}{last and f': {last}'}"
                )
