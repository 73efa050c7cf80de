"""Files are whole or not there, whatever stops the writer; what cannot be read is one line."""

import contextlib
import errno
import fcntl
import json
import os
import pickle
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.directories import (
    remove_leftovers,
    replace_directory,
    scratch_directory,
    without_leftovers,
)
from mtla_espnet.files import (
    UserError,
    atomic_path,
    check_file,
    open_file,
    place_error,
    read_text,
    reading,
    while_wanted,
    write_text,
)
from mtla_espnet.json_files import parse_json, read_json


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "one\n")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "one\n"
        raise KeyError
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    with atomic_path(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("two\n")
    assert path.read_text() == "two\n"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, code):
    with pytest.raises(UserError) as raised, atomic_path(tmp_path / "a.txt"):
        raise OSError(code, os.strerror(code))
    assert str(raised.value) == (
        f"{tmp_path / 'a.txt'}: cannot be written: {os.strerror(code)}: "
        "free some space and run again"
    )
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_seen_behind_another_error(tmp_path):
    with pytest.raises(UserError, match="a.txt: cannot be written: No space left"):
        with atomic_path(tmp_path / "a.txt"):
            try:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                raise RuntimeError("unexpected pos 13248 vs 13142")


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_scratch_directory_goes(tmp_path):
    with pytest.raises(KeyError), scratch_directory(tmp_path / "new") as scratch:
        (scratch / "a").write_text("a")
        assert scratch.parent == tmp_path / "new"
        raise KeyError
    assert not list((tmp_path / "new").iterdir())


def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path):
    def left_by_a_kill(directory, name):
        writer = atomic_path(directory / name)
        writer.__enter__().write_text("half")
        return writer

    kept = ["a.txt", ".hidden.txt", ".done.3", ".tmp", "x.tmp12345678", "sub/b.txt"]
    kept += ["locked/.lock", "locked/.c.tmp12345678.txt"]
    for name in kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/.d.tmp12345678.txt").write_text("")
    os.symlink(tmp_path / "elsewhere", tmp_path / "sub/link")
    killed = [left_by_a_kill(tmp_path / place, name) for place in ("", "sub") for name in "ab"]
    (tmp_path / ".scratch.tmp0123abcd").mkdir()
    (tmp_path / ".scratch.tmp0123abcd/file").write_text("")

    def files(root):
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    assert len(files(tmp_path)) == len(kept) + 1 + len(killed) + 1
    (tmp_path / "elsewhere/.lock").write_text("")
    remove_leftovers(tmp_path)
    assert files(tmp_path) == {*kept, "elsewhere/.d.tmp12345678.txt", "elsewhere/.lock"}
    assert not (tmp_path / ".scratch.tmp0123abcd").exists()


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    for content in ("old", "new"):
        (tmp_path / "made").mkdir()
        (tmp_path / "made/a").write_text(content)
        replace_directory(tmp_path / "made", tmp_path / "b")
        assert (tmp_path / "b/a").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_leftovers_stay_while_somebody_else_writes_there(tmp_path):
    left = tmp_path / ".scratch.tmp0123abcd"
    deeper = tmp_path / "corpus/.a.tmp0123abcd"
    deeper.mkdir(parents=True)
    left.mkdir()
    with open_directory(tmp_path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with without_leftovers(tmp_path):
            assert left.exists()
    with without_leftovers(tmp_path), without_leftovers(tmp_path):
        assert not left.exists() and deeper.exists()


@contextlib.contextmanager
def open_directory(path):
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


REFUSALS = [errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG]


@pytest.mark.parametrize("code", REFUSALS)
def test_a_file_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, code):
    def refuse(source, target):
        raise OSError(code, os.strerror(code), source, None, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError) as raised:
        write_text(tmp_path / "a.txt", "")
    assert str(raised.value) == f"{tmp_path / 'a.txt'}: cannot be written: {os.strerror(code)}"
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_directory_shall_be_is_one_line(tmp_path):
    (tmp_path / "a").write_text("")
    for path in (tmp_path / "a/b", tmp_path / "a/b/c"):
        with pytest.raises(UserError, match=f"^{path}: cannot be written: (File exists|Not a)"):
            write_text(path, "")
        with pytest.raises(UserError, match=f"^{path}: cannot be written: (File exists|Not a)"):
            scratch_directory(path).__enter__()


@pytest.mark.parametrize("code", REFUSALS)
def test_errors_of_a_place_are_told_from_those_of_a_program(tmp_path, code):
    path = str(tmp_path / "a")
    error = RuntimeError("torch")
    error.__context__ = OSError(code, os.strerror(code), path)
    assert str(place_error(error)) == f"{path}: cannot be written: {os.strerror(code)}"
    assert place_error(OSError(code, os.strerror(code))) is None  # of which file?
    assert place_error(FileNotFoundError(errno.ENOENT, "No such file", path)) is None
    assert place_error(ValueError(path)) is None


def _make(path, kind):
    """Make what is not a regular file."""
    if kind == "a directory":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        os.symlink("/dev/zero", path)
    else:
        server = socket.socket(socket.AF_UNIX)
        descriptor = os.open(path.parent, os.O_RDONLY)  # a socket's name has at most 107 bytes
        server.bind(f"/proc/self/fd/{descriptor}/{path.name}")
        os.close(descriptor)
        server.close()


@pytest.mark.parametrize("kind", ["a directory", "a pipe", "a device", "a socket"])
@pytest.mark.parametrize("read", [open_file, check_file, read_text, read_json])
def test_what_is_not_a_regular_file_is_told_and_not_waited_for(tmp_path, kind, read):
    path = tmp_path / "text"
    _make(path, kind)
    with pytest.raises(UserError) as raised:
        read(path)
    assert str(raised.value) == f"{path}: is {kind}, not a file"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none", "no such file"),
        ("a/none", "no such file"),
        ("x" * 300, "cannot be read: File name too long"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("file/none", "cannot be read: Not a directory"),
    ],
)
def test_a_file_that_cannot_be_opened_is_told(tmp_path, name, problem):
    (tmp_path / "file").write_text("")
    for read in (open_file, check_file, read_text, read_json):
        with pytest.raises(UserError) as raised:
            read(tmp_path / name)
        assert str(raised.value).replace("\\x00", "\0") == f"{tmp_path / name}: {problem}"


def test_a_link_to_a_file_is_one_and_lines_keep_their_ends(tmp_path):
    (tmp_path / "a").write_bytes("é\r\nb\r\u2028c\n".encode())
    (tmp_path / "b").symlink_to("a")
    assert read_text(tmp_path / "b") == "é\r\nb\r\u2028c\n"
    with open_file(tmp_path / "b") as stream:
        assert stream.read() == (tmp_path / "a").read_bytes()


def test_text_that_is_not_utf8_names_its_line(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"a\nb\nc \xff\n")
    with pytest.raises(UserError) as raised:
        read_text(path)
    assert str(raised.value) == f"{path}:3: not UTF-8 text (invalid start byte)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[" * 200_000, "maximum recursion depth exceeded"),
        ('{"a":' * 200_000, "maximum recursion depth exceeded"),
        ("9" * 10_000, "Exceeds the limit"),
    ],
)
def test_json_that_cannot_be_read_is_one_line(tmp_path, text, reason):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        read_json(path)
    assert str(raised.value).startswith(f"{path}: not a JSON file: {reason}")
    with pytest.raises(UserError, match="^b:7: not a line of JSON: "):
        parse_json(text, "b:7", "a line of JSON")


class _Panic(BaseException):
    """What a library in Rust raises is no Exception."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("two\nlines  of\treason"), "two lines of reason"),
        (KeyError("Config"), "KeyError: 'Config'"),
        (IndexError(), "IndexError"),
        (MemoryError(), "MemoryError"),
        (AssertionError(), "AssertionError"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "Permission denied"),
        (_Panic("at src/lib.rs"), "at src/lib.rs"),
        (json.JSONDecodeError("bad", "x", 0), "bad: line 1 column 1 (char 0)"),
    ],
)
def test_whatever_a_library_raises_is_one_line_with_its_reason(error, said):
    with pytest.raises(UserError) as raised, reading("a.bin:7", "not a model"):
        raise error
    assert str(raised.value) == f"a.bin:7: not a model: {said}"


def test_the_missing_file_is_named_where_the_library_names_it():
    with pytest.raises(UserError, match="^other.bin: no such file$"), reading("a.yaml"):
        open("other.bin")
    with pytest.raises(UserError, match="^a.yaml: no such file$"), reading("a.yaml"):
        raise FileNotFoundError


@pytest.mark.parametrize(
    "error", [UserError("as it is", 2), KeyboardInterrupt(), SystemExit(3), OSError(28, "full")]
)
def test_what_is_no_fault_of_the_file_passes(error):
    with pytest.raises(type(error)) as raised, reading("a"):
        raise error
    assert raised.value is error


@given(st.text(st.characters(), max_size=3000))
def test_a_message_is_one_bounded_printable_line(text):
    message = str(UserError(text))
    assert len(message) <= 1000
    assert message.encode("utf-8").decode().splitlines() in ([message], [])
    if text.isprintable() and len(text) <= 1000:
        assert message == text
    again = pickle.loads(pickle.dumps(UserError(text, 2)))
    assert (str(again), again.exit_code) == (message, 2)


def test_a_long_message_keeps_its_file_and_its_end():
    with pytest.raises(UserError) as raised, reading("a.yaml:4"):
        raise ValueError(f"key {'x' * 50_000_000} is not known")
    message = str(raised.value)
    assert message.startswith("a.yaml:4: cannot be read: key xxx")
    assert message.endswith("xxx is not known") and len(message) < 530
    assert len(str(UserError("x" * 50_000_000))) == 1000


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "a." + "b" * 250, "a" * 250 + ".wav"])
def test_a_name_as_long_as_names_may_be_is_written(tmp_path, name):
    write_text(tmp_path / name, "x\n")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_names_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.symlink("/proc/self/fd/1", tmp_path / "stdout")
    for name in ("pipe", "stdout"):
        with pytest.raises(UserError, match=f"{name}: is no file, and cannot be replaced by one"):
            write_text(tmp_path / name, "x")
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "stdout"}
    os.symlink(tmp_path / "none", tmp_path / "link")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").read_text() == "x"


def test_a_name_that_is_not_utf8_is_told_where_it_would_be_written(tmp_path):
    with pytest.raises(UserError, match=r"a.scp: cannot hold what is not UTF-8 text: .*dcff: ren"):
        write_text(tmp_path / "a.scp", f"u /data/{os.fsdecode(bytes([255]))}.wav\n")
    assert not list(tmp_path.iterdir())


def test_what_is_not_wanted_any_more_gets_no_name(tmp_path):
    path = tmp_path / "a"
    write_text(path, "old")
    with while_wanted(lambda: True):
        write_text(path, "new")
    with while_wanted(lambda: False), pytest.raises(UserError) as error:
        write_text(path, "late")
    assert str(error.value) == "the run that started this job has ended: nothing more is written"
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
