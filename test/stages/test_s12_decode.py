"""Joining what the jobs of stage 12 wrote, and what they left out."""

import pytest

from mtla_espnet.data.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.stages.s12_decode import join_tables, report_failed


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
