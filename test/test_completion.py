"""Tab in the shells that are there completes verbs, options, values and files."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
SHELLS = ("bash", "zsh", "fish", "tcsh")
WAIT_S = 300
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78])|[\r\a]")

# What each shell is told before somebody types: $1 is the file that completes.
BASH = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
function=$(complete -p mtla-espnet | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
"$function" mtla-espnet "${COMP_WORDS[$COMP_CWORD]}" "${COMP_WORDS[$COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'source $argv[1]; complete -C (string join -- " " $argv[2..])'
# These two complete for somebody at a terminal alone. The prompt is not in the line that sets it.
ZSH = (
    "fpath=({directory} $fpath); autoload -U compinit; compinit -u -D; LISTMAX=1000; "
    "zstyle ':completion:*' verbose no; PROMPT='READY'': '"
)
TCSH = "source {directory}/tcsh; set prompt='READY'': '"

WORDS = [
    (["tr"], {"transcribe", "translate"}),
    (["transcribe", "--cut", "le"], {"length"}),
    (["prepare", "smarth"], {"smarthome"}),
    (["recipe", "sum", "--inference_mt"], {"--inference_mt_model"}),
    (["recipe", "asr", "--force", ""], {"true", "false"}),
    (["align", "README"], {"README.md"}),
]
# A word's completions are the same after every verb: all that tcsh knows is the word before.
TCSH_WORDS = [*WORDS[:3], WORDS[4]]


@pytest.fixture(scope="module")
def completions(tmp_path_factory):
    """The directory of the files that complete; one process prints them all."""
    program = "import sys\nfrom mtla_espnet.cli import main\n"
    program += "for shell in sys.argv[1:]:\n    main(['completion', shell])\n    print('--- end')"
    command = [sys.executable, "-c", program, *SHELLS]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    directory = tmp_path_factory.mktemp("completion")
    scripts = done.stdout.split("--- end\n")[:-1]
    for shell, script in zip(SHELLS, scripts, strict=True):
        (directory / shell).write_text(script)
    shutil.copy(directory / "zsh", directory / "_mtla-espnet")
    return directory


def needs(shell):
    missing = shutil.which(shell) is None
    return pytest.mark.skipif(missing, reason=f"needs {shell}: apt install {shell}")


def called(*command):
    """Return the words that a command prints first in its lines."""
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


@needs("bash")
@pytest.mark.parametrize(("words", "expected"), WORDS)
def test_bash(completions, words, expected):
    found = called("bash", "-c", BASH, "bash", completions / "bash", "mtla-espnet", *words)
    assert found == expected


@needs("fish")
@pytest.mark.parametrize(("words", "expected"), WORDS)
def test_fish(completions, tmp_path, monkeypatch, words, expected):
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert called("fish", "-c", FISH, completions / "fish", "mtla-espnet", *words) == expected


class Terminal:
    """A shell at a terminal of its own.

    Args:
        command: words that start the shell.
        kind: of the terminal. zsh redraws lines on a `vt100`; tcsh has no editor on a `dumb` one.
        home: directory of the user's.
    """

    def __init__(self, command, kind, home):
        self._master, slave = pty.openpty()
        # the first terminal that the leader of a session opens is its own
        opened = ["sh", "-c", 'tty=$1; shift; exec "$@" <"$tty" >"$tty" 2>&1', "sh"]
        self._process = subprocess.Popen(
            [*opened, os.ttyname(slave), *command],
            cwd=CHECKOUT, start_new_session=True, stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "TERM": kind, "HOME": str(home)},
        )  # fmt: skip
        self._slave = slave

    def type(self, keys, until, again=""):
        """Type keys; return the match of a pattern in what is shown.

        Keys `again` are typed every few seconds: a shell may not have read the first ones as keys.
        """
        os.write(self._master, keys.encode())
        shown, end = "", time.monotonic() + WAIT_S
        while not (found := re.search(until, ESCAPES.sub("", shown), re.DOTALL)):
            assert time.monotonic() < end and self._process.poll() is None, shown
            if select.select([self._master], [], [], 5)[0]:
                shown += os.read(self._master, 65536).decode()
            else:
                os.write(self._master, again.encode())
        return found

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._slave)
        os.close(self._master)


def listed(terminal, words):
    """Return the completions that Ctrl-D lists."""
    line = " ".join(["mtla-espnet", *words])
    found = terminal.type(line + "\x04", rf"{re.escape(line)}\n(.*?)READY: ", again="\x04")
    terminal.type("\x15\n", "READY: ")  # the line is removed again
    return set(found[1].split())


@needs("zsh")
def test_zsh(completions, tmp_path):
    terminal = Terminal(["zsh", "-f", "-i"], "dumb", tmp_path)
    try:
        terminal.type(ZSH.format(directory=completions) + "\n", "READY: ")
        assert [listed(terminal, words) for words, _ in WORDS] == [found for _, found in WORDS]
    finally:
        terminal.close()


@needs("tcsh")
def test_tcsh(completions, tmp_path):
    terminal = Terminal(["tcsh", "-f"], "vt100", tmp_path)
    try:
        terminal.type(TCSH.format(directory=completions) + "\n", "READY: ")
        found = [listed(terminal, words) for words, _ in TCSH_WORDS]
        assert found == [expected for _, expected in TCSH_WORDS]
    finally:
        terminal.close()
