"""Marks: when a part is done, redone or refused."""

import dataclasses
import os

import pytest

from mtla_espnet.files import UserError, write_text
from mtla_espnet.jobs import marks
from mtla_espnet.jobs.marks import Mark, Part, check_inputs, marked_ns, other_options
from mtla_espnet.jobs.stamps import files_of
from mtla_espnet.json_files import read_json, write_json


@pytest.fixture
def part(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out/result"
    source.write_text("one")
    target.parent.mkdir()
    return Part(target.parent, {"fs": 8, "config": {"lr": 0.1}}, {source: 3}, [target])


def done(part, root):
    mark = Mark(part, 4, root)
    mark.begin()
    part.outputs[0].write_text("x")
    mark.finish()


def reason(part, root):
    return Mark(part, 4, root).missing_reason()


def test_a_part_is_done_once_it_finished(part, tmp_path):
    assert reason(part, tmp_path) == "not done yet"
    done(part, tmp_path)
    assert reason(part, tmp_path) is None


def test_when_a_part_was_done_is_known_without_reading_it(part, tmp_path):
    assert marked_ns(part.directory, 5) is None
    mark = Mark(part, 5, tmp_path)
    mark.begin()
    for path in part.outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    mark.finish()
    done = part.directory / ".done.5"
    assert marked_ns(part.directory, 5) == done.stat().st_mtime_ns
    (part.directory / ".begun.5").touch()
    assert marked_ns(part.directory, 5) is None
    mark.forget()
    assert not list(part.directory.glob(".*.5"))


def test_an_interrupted_part_is_not_done(part, tmp_path):
    done(part, tmp_path)
    Mark(part, 4, tmp_path).begin()
    assert reason(part, tmp_path) == "was interrupted"


def test_changed_options_inputs_and_outputs_are_named(part, tmp_path):
    done(part, tmp_path)
    changed = dataclasses.replace(part, options={"fs": 8, "config": {"lr": 0.2}})
    assert reason(changed, tmp_path) == "option.config.lr: 0.1 -> 0.2"
    (tmp_path / "in").touch()
    assert reason(part, tmp_path) is None
    (tmp_path / "in").write_text("two")
    assert reason(part, tmp_path) == "input.in changed"
    (tmp_path / "in").write_text("one")
    part.outputs[0].unlink()
    assert reason(part, tmp_path) == f"{part.outputs[0]} is missing"


@pytest.fixture
def recordings(tmp_path):
    """A part that reads two recordings, and writes a copy of one."""
    for name in "ab":
        (tmp_path / f"{name}.wav").write_text(name)
    table, target = tmp_path / "wav.scp", tmp_path / "out/wav.scp"
    table.write_text(f"u1 {tmp_path}/a.wav\nu2\t{tmp_path}/b.wav\nu3 cat {tmp_path}/a.wav |\n")
    (target.parent / "data").mkdir(parents=True)
    part = Part(target.parent, {}, {table: 1}, [target])
    mark = Mark(part, 3, tmp_path)
    mark.begin()
    (target.parent / "data/u1.flac").write_text("a")
    target.write_text(f"u1 {target.parent}/data/u1.flac\n")
    mark.finish()
    return part


def touch(path, later_s=1):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + later_s * 10**9))


@pytest.mark.parametrize("how", ["repaired", "replaced", "of the same size"])
def test_a_recording_that_changed_is_named(recordings, tmp_path, how):
    def why():
        return Mark(recordings, 3, tmp_path).missing_reason()

    assert why() is None
    path = tmp_path / "b.wav"
    if how == "replaced":
        (tmp_path / "new").write_text("longer")
        (tmp_path / "new").rename(path)
    else:
        path.write_text("longer" if how == "repaired" else "c")
        touch(path)
    assert why() == f"{path} changed"


def test_a_corpus_may_go_once_its_audio_is_formatted_and_what_comes_instead_is_new(
    recordings, tmp_path
):
    for name in "ab":
        (tmp_path / f"{name}.wav").unlink()
    assert Mark(recordings, 3, tmp_path).missing_reason() is None
    (tmp_path / "a.wav").write_text("another")
    assert Mark(recordings, 3, tmp_path).missing_reason() == f"{tmp_path}/a.wav changed"


def test_a_recording_that_was_missing_and_came_is_a_change(recordings, tmp_path):
    (tmp_path / "b.wav").unlink()
    mark = Mark(recordings, 3, tmp_path)
    mark.begin()
    mark.finish()
    assert Mark(recordings, 3, tmp_path).missing_reason() is None
    (tmp_path / "b.wav").write_text("there")
    assert Mark(recordings, 3, tmp_path).missing_reason() == f"{tmp_path}/b.wav changed"


def test_what_was_written_and_is_gone_is_named(recordings, tmp_path):
    (recordings.directory / "data/u1.flac").unlink()
    touch(recordings.directory / "data")  # two changes within a tick of the clock
    reason = Mark(recordings, 3, tmp_path).missing_reason()
    assert reason == f"{recordings.directory}/data is not as it was written"


def test_places_in_archives_have_the_stamp_of_the_archive(tmp_path):
    table = tmp_path / "feats.scp"
    table.write_text("a x.ark:25\nb x.ark:90[0:9]\nc y.zip:40:5\nd z.npy\n")
    assert files_of(table) == ["x.ark", "y.zip", "z.npy"]


def test_large_files_are_watched(part, tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_text("a")
    watching = dataclasses.replace(part, watched=[weights])
    done(part, tmp_path)
    assert reason(watching, tmp_path) is None, "a mark of an older version holds"
    done(watching, tmp_path)
    assert reason(watching, tmp_path) is None
    weights.write_text("another")
    assert reason(watching, tmp_path) == f"{weights} changed"
    weights.unlink()
    assert reason(watching, tmp_path) is None
    (tmp_path / "b").touch()
    more = dataclasses.replace(part, watched=[tmp_path / "b", weights])
    assert reason(more, tmp_path) == f"{tmp_path}/b changed"


def test_later_stages_go_by_digests_alone(recordings, tmp_path):
    later = dataclasses.replace(recordings, inputs=dict.fromkeys(recordings.inputs, 3))
    mark = Mark(later, 4, tmp_path)
    mark.begin()
    mark.finish()
    (tmp_path / "b.wav").write_text("longer")
    assert Mark(later, 4, tmp_path).missing_reason() is None


def test_a_mark_of_an_older_version_holds(recordings, tmp_path):
    path = recordings.directory / ".done.3"
    old = {key: value for key, value in read_json(path).items() if key in ("option", "input")}
    write_json(path, old)
    assert Mark(recordings, 3, tmp_path).missing_reason() is None


def test_a_mark_comes_when_all_else_is_on_the_disk(part, tmp_path, monkeypatch):
    """In the order of the calls: what is written, its flush, its rename, then the mark's."""
    calls = []
    replace, fsync = os.replace, os.fsync

    def seen_replace(source, target):
        calls.append(("rename", os.path.basename(target)))
        replace(source, target)

    def seen_fsync(descriptor):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        calls.append(("flush", name.split(".tmp")[0]))
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", seen_replace)
    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(marks, "flush_all", lambda path: calls.append(("flush all", path.name)))
    mark = Mark(part, 4, tmp_path)
    mark.begin()
    write_text(part.outputs[0], "x")
    mark.finish()
    assert calls == [
        ("flush", "..begun"),
        ("rename", ".begun.4"),
        ("flush", ".result"),
        ("rename", "result"),
        ("flush all", "out"),
        ("flush", "..done"),
        ("rename", ".done.4"),
    ]


def test_options_by_which_another_stage_did_its_part_are_compared(part, tmp_path):
    other = dataclasses.replace(part, options={"fs": 16, "config": {"lr": 0.1}})
    assert other_options(other, 4) == []
    done(part, tmp_path)
    assert other_options(part, 4) == []
    assert other_options(other, 4) == ["fs: 8 -> 16"]


def test_values_compare_as_json_keeps_them(part, tmp_path):
    part = dataclasses.replace(part, options={"a": (1, 2), "b": tmp_path, "c": {1: None}})
    done(part, tmp_path)
    assert reason(part, tmp_path) is None


def test_a_damaged_mark_means_to_do_it_again(part, tmp_path):
    done(part, tmp_path)
    (part.directory / ".done.4").write_text("{")
    assert "cannot be read" in reason(part, tmp_path)


def test_a_part_that_wrote_too_little_is_not_finished(part, tmp_path):
    mark = Mark(part, 4, tmp_path)
    mark.begin()
    with pytest.raises(UserError, match="ended without .*result"):
        mark.finish()
    assert reason(part, tmp_path) == "was interrupted"


@pytest.mark.parametrize("finished", [True, False])
def test_a_part_that_goes_on_names_what_must_not_change(part, tmp_path, finished):
    part = dataclasses.replace(
        part,
        goes_on_from=part.directory / "checkpoint",
        may_change=frozenset(["option.config.lr"]),
    )
    if finished:
        done(part, tmp_path)
    else:
        Mark(part, 4, tmp_path).begin()
    allowed = dataclasses.replace(part, options={"fs": 8, "config": {"lr": 0.2}})
    mark = Mark(allowed, 4, tmp_path)
    assert mark.missing_reason() and mark.forbidden_changes() == []
    other = dataclasses.replace(part, options={"fs": 9, "config": {"lr": 0.2}})
    assert Mark(other, 4, tmp_path).forbidden_changes() == [], "there is nothing to go on from"
    part.goes_on_from.touch()
    assert Mark(other, 4, tmp_path).forbidden_changes() == ["option.fs: 8 -> 9"]


@pytest.mark.parametrize("before, now", [({}, {"fast": True}), ({"fast": True}, {})])
def test_an_option_that_changes_no_result_leaves_a_part_done(part, tmp_path, before, now):
    part = dataclasses.replace(part, no_matter=frozenset(["option.config.layers.fast"]))
    old, new = (
        dataclasses.replace(part, options={"config": {"layers": {"n": 2} | more}})
        for more in (before, now)
    )
    done(old, tmp_path)
    assert reason(new, tmp_path) is None
    other = dataclasses.replace(new, options={"config": {"layers": {"n": 3}}})
    assert "layers.n: 2 -> 3" in reason(other, tmp_path)


def test_missing_inputs_name_the_stage_to_run(part, tmp_path):
    check_inputs(part)
    (tmp_path / "in").unlink()
    with pytest.raises(UserError, match=r"in is missing: run stage 3 first \(--stage 3\)"):
        check_inputs(part)
    with pytest.raises(UserError, match="in: no such file"):
        check_inputs(dataclasses.replace(part, inputs={tmp_path / "in": 0}))


def test_inputs_of_an_interrupted_stage_are_not_used(part, tmp_path):
    (tmp_path / ".begun.4").touch()
    check_inputs(part)
    (tmp_path / ".begun.3").touch()
    with pytest.raises(UserError, match="stage 3 was interrupted: run stage 3 first"):
        check_inputs(part)
