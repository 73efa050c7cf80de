import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.inference import decode as decode_module
from mtla_espnet.inference.decode import decode
from mtla_espnet.inference.journal import Journal, read_journals
from mtla_espnet.inference.trained_model import TrainedModel
from mtla_espnet.score.efficiency import (
    SEARCH_PARTS,
    merge_efficiency,
    merge_runs,
    read_efficiency,
)
from mtla_espnet.search.batching import in_batches

pytestmark = pytest.mark.espnet

CONFIG = {"beam_size": 3, "ctc_weight": 0.3, "maxlenratio": -12}


def run(recipe, model, output, **changes):
    arguments = {
        "task": "asr",
        "train_config": model.config_file,
        "model_file": model.file,
        "token_list": None,
        "inference_config": CONFIG,
        "data_dir": recipe / "dump/raw/test",
        "keys": None,
        "output_dir": output,
        "batch_size": 1,
        "max_memory_bytes": None,
        "ngpu": 0,
        "progress": False,
    }
    return decode(**arguments | changes)


def tables_of(output):
    return {
        name: read_table(output / "1best_recog" / name)
        for name in ("text", "token", "token_int", "score")
    }


@pytest.fixture(scope="module")
def one_by_one(recipe, model, tmp_path_factory):
    """Tables and cost of the set, decoded one by one."""
    output = tmp_path_factory.mktemp("one")
    cost, failed = run(recipe, model, output)
    assert not failed
    return tables_of(output), cost, output


def test_tables_belong_together(one_by_one, model):
    tables, cost, _ = one_by_one
    assert [list(table) for table in tables.values()] == [[f"utt{i}" for i in range(1, 6)]] * 4
    for key, token in tables["token"].items():
        assert token.split() == [model.tokens[int(i)] for i in tables["token_int"][key].split()]
        words = "".join(token.split()).replace("<space>", " ").strip()
        assert tables["text"][key] == words
        assert float(tables["score"][key]) < 0
    assert cost["tokens"] == sum(len(token.split()) for token in tables["token"].values())
    assert len(set(tables["text"].values())) > 1


@pytest.mark.parametrize("batch_size", [2, 5])
def test_batches_change_nothing(recipe, model, one_by_one, tmp_path, batch_size):
    tables, _, _ = one_by_one
    run(recipe, model, tmp_path, batch_size=batch_size)
    found = tables_of(tmp_path)
    assert found["token_int"] == tables["token_int"]
    for key, score in tables["score"].items():
        assert float(found["score"][key]) == pytest.approx(float(score), abs=1e-3)


@pytest.mark.parametrize("batch_length", [1, 30000])
def test_the_length_of_a_batch_changes_nothing(recipe, model, one_by_one, tmp_path, batch_length):
    # 1: every utterance is longer, and is decoded alone.
    _, failed = run(recipe, model, tmp_path, batch_size=100, batch_length=batch_length)
    assert not failed
    assert tables_of(tmp_path)["text"] == one_by_one[0]["text"]


def test_no_batch_is_longer_than_asked(recipe, model, tmp_path, monkeypatch):
    seen = []

    def spy(lengths, batch_size, decode_batch, most, batch_length):
        for batch, found in in_batches(lengths, batch_size, decode_batch, most, batch_length):
            seen.append((batch_length, len(batch) * max(lengths[key] for key in batch)))
            yield batch, found

    monkeypatch.setattr(decode_module, "in_batches", spy)
    run(recipe, model, tmp_path, batch_size=100, batch_length=10**9)
    run(recipe, model, tmp_path / "short", batch_size=100, batch_length=1)
    assert [most for most, _ in seen] == [10**9] + [1] * 5
    assert all(total <= 10**9 for _, total in seen[:1])


def test_shards_make_up_the_set(recipe, model, one_by_one, tmp_path):
    tables, whole, _ = one_by_one
    joined, costs = {}, []
    for number, keys in enumerate((["utt4", "utt1"], ["utt2", "utt3", "utt5"])):
        output = tmp_path / str(number)
        run(recipe, model, output, keys=keys, batch_size=2)
        assert list(tables_of(output)["text"]) == sorted(keys)
        joined |= tables_of(output)["token_int"]
        costs.append(read_efficiency(output / "efficiency.json"))
    assert joined == tables["token_int"]
    merged = merge_efficiency(costs)
    for key in ("utterances", "audio_s", "tokens", "attention", "down_rate"):
        assert merged[key] == whole[key], key


def test_the_cost_is_measured(one_by_one):
    _, cost, output = one_by_one
    assert json.loads((output / "efficiency.json").read_text()) == cost
    assert (cost["utterances"], cost["batch"], cost["beam_size"]) == (5, 1, 3)
    assert cost["audio_s"] == 29000 / 8000
    assert (cost["attention"], cost["down_rate"]) == ("mtla", 2)
    assert (cost["device"], cost["dtype"]) == ("cpu", "float32")
    assert 0 < cost["encoder_s"] + cost["search_s"] < cost["total_s"]
    assert min(cost[part] for part in SEARCH_PARTS) > 0
    assert sum(cost[part] for part in SEARCH_PARTS) == pytest.approx(cost["search_s"], abs=1e-5)
    assert cost["rtf"] == pytest.approx(cost["total_s"] / cost["audio_s"], rel=1e-3)
    # 2 layers; latents of 4 h and rotary keys of h / 2 with h = 16 / 2; a half position each.
    assert cost["cache_bytes_per_position"] == 2 * (4 * 8 + 4) * 4 / 2
    assert 0 < cost["cache_bytes_peak"] <= cost["cache_bytes_allocated"]


def test_espnets_decoder_has_no_cache_to_report(recipe, transformer, tmp_path):
    cost, _ = run(recipe, transformer, tmp_path, batch_size=5)
    assert cost["utterances"] == 5
    assert cost["search_decoder_s"] > 0
    for key in ("attention", "down_rate", "cache_bytes_peak", "cache_bytes_per_position"):
        assert cost[key] is None, key


def test_each_rank_has_its_tables(recipe, model, one_by_one, tmp_path):
    tables, _, _ = one_by_one
    run(recipe, model, tmp_path, inference_config=CONFIG | {"nbest": 2}, batch_size=5)
    assert tables_of(tmp_path)["token_int"] == tables["token_int"]
    second = read_table(tmp_path / "2best_recog/score")
    assert second
    for key, score in second.items():
        assert float(score) <= float(tables["score"][key]) + 1e-3


def test_bad_audio_is_left_out_and_the_rest_is_decoded(recipe, model, one_by_one, tmp_path):
    tables, _, _ = one_by_one
    good = read_table(recipe / "dump/raw/test/wav.scp")
    (tmp_path / "cut.flac").write_bytes(Path(good["utt1"]).read_bytes()[:300])
    soundfile.write(tmp_path / "rate.wav", np.zeros(800), 16000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    bad = {"cut": "cut.flac", "empty": "empty.wav", "none": "none.wav", "rate": "rate.wav"}
    data = tmp_path / "data"
    write_table(data / "wav.scp", good | {key: tmp_path / name for key, name in bad.items()})
    lengths = read_table(recipe / "dump/raw/test/utt2num_samples")
    write_table(data / "utt2num_samples", dict.fromkeys(bad, 0) | lengths)
    cost, failed = run(recipe, model, tmp_path / "out", data_dir=data, batch_size=4)
    assert failed.keys() == bad.keys()
    for key, name in bad.items():
        assert f"{name}: " in failed[key] and "\n" not in failed[key]
    assert "has 16000 Hz, the model takes 8000 Hz" in failed["rate"]
    assert tables_of(tmp_path / "out")["token_int"] == tables["token_int"]
    assert (cost["utterances"], cost["audio_s"]) == (5, 29000 / 8000)

    cost, failed = run(recipe, model, tmp_path / "all", data_dir=data, keys=["none", "cut"])
    assert len(failed) == 2
    assert (cost["utterances"], cost["rtf"]) == (0, None)
    assert merge_efficiency([cost, cost])["rtf"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux measures memory so")
def test_what_does_not_fit_into_memory_is_left_out(recipe, model, tmp_path, caplog):
    samples = np.random.default_rng(0).normal(0, 0.1, 3_000_000)
    data = tmp_path / "data"
    lengths = read_table(recipe / "dump/raw/test/utt2num_samples") | {"long": len(samples)}
    recordings = read_table(recipe / "dump/raw/test/wav.scp")
    soundfile.write(tmp_path / "long.flac", samples, 8000)
    write_table(data / "wav.scp", recordings | {"long": tmp_path / "long.flac"})
    write_table(data / "utt2num_samples", lengths)
    options = {"data_dir": data, "batch_size": 4, "max_memory_bytes": 20_000_000}
    with caplog.at_level(logging.WARNING):
        cost, failed = run(recipe, model, tmp_path / "out", **options)
    assert "long: does not fit into memory even alone: length 3000000" in caplog.text
    assert failed == {"long": "does not fit into memory, even alone"}
    assert cost["utterances"] == 5
    assert len(tables_of(tmp_path / "out")["text"]) == 5


def test_wrong_input_is_named_and_nothing_is_written(recipe, model, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(UserError, match="wav.scp: no line for 'utt9'"):
        run(recipe, model, output, keys=["utt1", "utt9"])
    with pytest.raises(ValueError, match="task 'tts' is unknown: say asr, st, slu, sum"):
        run(recipe, model, output, task="tts")
    with pytest.raises(UserError, match="is of a model of speech recognition, not of speech tr"):
        run(recipe, model, output, task="st", inference_config={"beam_size": 3})
    with pytest.raises(UserError, match="batch_size must be at least 1, not 0"):
        run(recipe, model, output, batch_size=0)
    with pytest.raises(UserError, match="wav.scp: no utterance to decode"):
        run(recipe, model, output, keys=[])
    with pytest.raises(UserError, match="decoding option 'beam' is not known here"):
        run(recipe, model, output, inference_config={"beam": 3})
    tokens = tmp_path / "tokens.txt"
    with pytest.raises(UserError, match="tokens.txt: cannot be read"):
        run(recipe, model, output, token_list=tokens)
    tokens.write_text("\n".join(model.tokens[:-1]) + "\n")
    with pytest.raises(UserError, match="trained with another token list than .*tokens.txt"):
        run(recipe, model, output, token_list=tokens)
    data = tmp_path / "data"
    write_table(data / "wav.scp", {"a": "a.wav"})
    write_table(data / "utt2num_samples", {"a": "many"})
    with pytest.raises(UserError, match="utt2num_samples: 'a' has 'many', not a number"):
        run(recipe, model, output, data_dir=data)
    assert not output.exists()


class Killed(Exception):
    pass


class Dying(Journal):
    """Dies after `left` batches."""

    left = 2

    def add(self, found, cost):
        super().add(found, cost)
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_interrupted_decode_goes_on_and_ends_with_the_same_bytes(
    recipe, model, tmp_path, batch_size
):
    whole, _ = run(recipe, model, tmp_path / "whole", batch_size=batch_size)
    options = {"batch_size": batch_size}
    with pytest.raises(Killed), Dying(tmp_path / "journals", "a") as journal:
        run(recipe, model, tmp_path / "out", journal=journal, **options)
    assert not (tmp_path / "out").exists()
    known, earlier = read_journals(tmp_path / "journals", "a")
    assert len(known) == 2 * batch_size
    with Journal(tmp_path / "journals", "a") as journal:
        last, failed = run(recipe, model, tmp_path / "out", known=known, journal=journal, **options)
    assert not failed
    assert last == read_efficiency(tmp_path / "out/efficiency.json")
    for path in sorted((tmp_path / "whole/1best_recog").iterdir()):
        assert (tmp_path / "out/1best_recog" / path.name).read_bytes() == path.read_bytes()
    merged = merge_runs(earlier, [last])
    for key in ("utterances", "audio_s", "tokens", "beam_size", "attention", "cache_bytes_peak"):
        assert merged[key] == whole[key], key
    assert merged["utterances_from_interrupted_runs"] == 2 * batch_size
    assert merged["total_s"] == pytest.approx(earlier[0]["total_s"] + last["total_s"], abs=1e-5)
    assert earlier[0]["total_s"] > earlier[0]["encoder_s"] + earlier[0]["search_s"] > 0

    known, earlier = read_journals(tmp_path / "journals", "a")
    assert run(recipe, model, tmp_path / "again", known=known, **options) == (None, {})
    assert read_table(tmp_path / "again/1best_recog/text") == read_table(
        tmp_path / "out/1best_recog/text"
    )
    assert merge_runs(earlier, [])["utterances"] == 5


def test_a_batch_that_killed_a_run_is_decoded_in_halves_and_then_left_out(recipe, model, tmp_path):
    batches = []

    class Noting(Journal):
        def begin(self, keys):
            batches.append(keys)

    killed = [["utt2", "utt4", "utt1", "utt5"], ["utt3"]]
    options = {"batch_size": 5, "killed": killed}
    with Noting(tmp_path / "journals", "a") as journal:
        _, failed = run(recipe, model, tmp_path / "once", journal=journal, **options)
    assert batches == [["utt2", "utt4"], ["utt1", "utt5"], ["utt3"]] and not failed
    options["killed"] = [*killed, ["utt3"]]
    cost, failed = run(recipe, model, tmp_path / "twice", **options)
    assert failed == {"utt3": "two runs were killed while it was decoded alone (out of memory?)"}
    assert cost["utterances"] == 4
    rest = tables_of(tmp_path / "once")["text"]
    del rest["utt3"]
    assert tables_of(tmp_path / "twice")["text"] == rest


def test_what_the_model_cannot_take_is_left_out_and_named(recipe, model, tmp_path, monkeypatch):
    prepared = TrainedModel.decode_prepared

    def decode(self, utterances, meter=None):
        outcomes = prepared(self, utterances, meter)
        return [
            UserError("its scores are not finite numbers") if len(each["speech"]) == 9000 else found
            for each, found in zip(utterances, outcomes, strict=True)
        ]

    monkeypatch.setattr(TrainedModel, "decode_prepared", decode)
    cost, failed = run(recipe, model, tmp_path, batch_size=5)
    assert failed == {"utt2": "its scores are not finite numbers"}
    assert cost["utterances"] == 4 and "utt2" not in tables_of(tmp_path)["text"]
