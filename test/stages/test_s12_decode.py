"""Joining what the jobs of stage 12 wrote, and what they left out."""

import json

import pytest

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.jobs.marks import Part
from mtla_espnet.json_files import write_json
from mtla_espnet.recipe.load import load_recipe
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.report.rows import gather
from mtla_espnet.score.efficiency import KEYS
from mtla_espnet.stages import s12_decode, s13_score
from mtla_espnet.stages.s12_decode import (
    identity_of,
    join_tables,
    report_failed,
    tell_empty,
)

SETS = ["--train_set", "train", "--valid_set", "valid", "--test_sets", "test", "--use_lm", "false"]


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


def test_of_how_many_nothing_was_recognised_is_told(tmp_path, capsys):
    scores = {f"utt{number}": "-inf" if number < 7 else "-1.5" for number in range(9)}
    write_table(tmp_path / "score", scores)
    tell_empty(tmp_path / "score", "test")
    assert capsys.readouterr().out.endswith(
        "test: nothing was recognised of 7 of 9 utterances: utt0 utt1 utt2 utt3 utt4 ...\n"
    )
    write_table(tmp_path / "score", {"utt1": "-1.5"})
    tell_empty(tmp_path / "score", "test")
    assert not capsys.readouterr().out


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


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """Decodes a set of two texts with a stand-in for the model; returns the recipe."""
    recipe = load_recipe(parse_options(SETS, task="sum"), tmp_path)
    data_dir = recipe.sets.evaluated["test"]
    for table in ("text", "src_text"):
        write_table(data_dir / table, {"a": "One sum.", "b": "Two sums."})
    write_table(data_dir / "utt2spk", {"a": "a", "b": "b"})
    for path in (recipe.paths.model_file, recipe.tokens.token_list):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (recipe.paths.exp_dir / "config.yaml").write_text("decoder: decoder_only\n")
    monkeypatch.setattr(s12_decode, "load_espnet", lambda: None)

    def run(failing=(), text="One sum."):
        def decode(*, keys, output_dir, **_):
            found = {key: text for key in keys if key not in failing}
            for name in ("text", "token", "token_int", "score"):
                write_table(output_dir / "1best_recog" / name, found)
            words = {"device": "cpu", "dtype": "float32", "attention": "mha"}
            cost = dict.fromkeys(KEYS, 1.0) | words | {"utterances": len(found)}
            write_json(output_dir / "efficiency.json", cost)
            return cost, dict.fromkeys(failing, "does not fit into memory, even alone")

        monkeypatch.setattr("mtla_espnet.inference.decode.decode", decode)
        (part,) = s12_decode.parts(recipe)
        s12_decode.run(recipe, part)
        for part in s13_score.parts(recipe):
            s13_score.run(recipe, part)
        return recipe

    return run


def test_a_failed_decode_leaves_no_score_of_the_one_before(decoded):
    exp_dir = decoded().paths.exp_dir
    results = exp_dir / "RESULTS.md"
    assert "### ROUGE" in results.read_text()
    with pytest.raises(UserError, match="1 of 2 utterances were not decoded"):
        decoded(failing=["b"])
    text = results.read_text()
    assert "test: 1 of 2 utterances were not decoded (failed.tsv)" in text
    assert "### ROUGE" not in text
    (row,) = gather(exp_dir.parent)
    assert (row["rouge_l"], row["utterances"], row["failed"]) == (None, 1, 1)
    decoded(text="")
    text = results.read_text()
    assert "test: all 2 hypotheses are empty: nothing was recognised" in text
    assert "not decoded" not in text and "### ROUGE" in text
    (cost,) = exp_dir.rglob("test/efficiency.json")
    assert json.loads(cost.read_text())["utterances"] == 2
