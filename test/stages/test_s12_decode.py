"""Joining what the jobs of stage 12 wrote."""

from mtla_espnet.data.tables import read_table, write_table
from mtla_espnet.stages.s12_decode import join_tables


def test_tables_of_the_jobs_are_joined_and_sorted(tmp_path):
    shards = [{"b": "hello", "c": ""}, {"a": "world"}]
    outputs = [tmp_path / f"output.{number}" for number in (1, 2)]
    for output, shard in zip(outputs, shards, strict=True):
        for name in ("text", "token", "token_int", "score"):
            write_table(output / "1best_recog" / name, shard)
    join_tables(outputs, tmp_path)
    for name in ("text", "token", "token_int", "score"):
        assert read_table(tmp_path / name) == {"a": "world", "b": "hello", "c": ""}
