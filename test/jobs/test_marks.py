"""Marks: when a part is done, redone or refused."""

import dataclasses

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.jobs.marks import Mark, Part, check_inputs


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
