"""Files are whole or not there, whatever stops the writer."""

import errno
import os

import pytest

from mtla_espnet.files import (
    UserError,
    atomic_path,
    remove_leftovers,
    scratch_directory,
    write_text,
)


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
