"""Joining what the jobs of stage 12 wrote, and what they left out."""

import pytest

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.jobs.marks import Part
from mtla_espnet.stages.s12_decode import identity_of, join_tables, report_failed


def test_tables_of_the_jobs_are_joined_and_sorted(tmp_path):
    shards = [{"b": "hello", "c": ""}, {"a": "world"}]
    outputs = [tmp_path / f"output.{number}" for number in (1, 2)]
    for output, shard in zip(outputs, shards, strict=True):
        for name in ("text", "token", "token_int", "score"):
            write_table(output / "1best_recog" / name, shard)
    join_tables(outputs, tmp_path)
    for name in ("text", "token", "token_int", "score"):
        assert read_table(tmp_path / name) == {"a": "world", "b": "hello", "c": ""}


def test_what_was_left_out_is_listed_and_an_error(tmp_path):
    path = tmp_path / "failed.tsv"
    with pytest.raises(UserError) as raised:
        report_failed({"b": "too long", "a": "a.wav: no such file"}, 9, path)
    assert path.read_text() == "utterance\treason\na\ta.wav: no such file\nb\ttoo long\n"
    assert str(raised.value) == (
        f"2 of 9 utterances were not decoded (listed in {path}): a: a.wav: no such file"
    )
    assert raised.value.exit_code == 1


def test_an_old_list_goes_when_all_are_decoded(tmp_path):
    path = tmp_path / "failed.tsv"
    path.write_text("utterance\treason\na\tb\n")
    report_failed({}, 9, path)
    assert not path.exists()


def test_a_decoding_is_named_by_all_but_the_number_of_jobs(tmp_path):
    names = ("model.pth", "wav.scp", "text")
    for name in names:
        (tmp_path / name).write_text(name)

    def identity(device="cpu", **changes):
        options = {"batch_size": 2, "inference_nj": 4, "config": {"beam_size": 3}} | changes
        inputs = {tmp_path / name: 3 for name in names}
        return identity_of(Part(tmp_path, options, inputs, []), device)

    first = identity()
    assert identity(inference_nj=1) == first
    for changes in ({"batch_size": 3}, {"config": {"beam_size": 4}}, {"device": "H100"}):
        assert identity(**changes) != first
    (tmp_path / "text").write_text("another reference")
    assert identity() == first
    (tmp_path / "model.pth").write_text("another model")
    assert identity() != first
