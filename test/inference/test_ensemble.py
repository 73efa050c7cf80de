"""Decoding options of TrainedModel that the search alone does not show."""

import json

import numpy as np
import pytest
import soundfile
import torch

from mtla_espnet.cli import main
from mtla_espnet.files import UserError
from mtla_espnet.inference.decode import decode
from mtla_espnet.inference.speech2text import Speech2Text

pytestmark = pytest.mark.espnet

OPTIONS = {"beam_size": 3, "maxlenratio": -8, "ctc_weight": 0.0}


@pytest.fixture(scope="module")
def other(recipe, make_model):
    """A model of another attention, with other weights."""
    made = make_model(recipe, "other", "decoder_only", attention="mha")
    torch.manual_seed(7)
    weights = torch.load(made.file)
    for value in weights.values():
        if value.is_floating_point():
            value += 0.1 * torch.randn_like(value)
    torch.save(weights, made.file)
    return made


@pytest.fixture(scope="module")
def waves(recipe):
    paths = sorted((recipe / "dump/raw/test").glob("*.flac"))
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


def load(model, **options):
    return Speech2Text(model.config_file, model.file, **OPTIONS | options)


def ids(results):
    return [result[2] for result in results]


def scores(results):
    return [result[3].score for result in results]


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_a_model_and_itself_are_the_model(model, waves, ctc_weight):
    alone = load(model, ctc_weight=ctc_weight, nbest=3)(waves)
    twice = load(model, ctc_weight=ctc_weight, nbest=3, ensemble=[model.file, model.directory])
    for a, b in zip(alone, twice(waves), strict=True):
        assert ids(a) == ids(b)
        assert scores(a) == pytest.approx(scores(b), abs=1e-3)


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_two_models_score_by_the_average_of_their_probabilities(model, other, waves, ctc_weight):
    """What both find is forced upon each alone, token by token, and its scores are averaged."""
    both = load(model, ctc_weight=ctc_weight, ensemble=[other.file])
    models = load(model), load(other)
    for wave, found in zip(waves, both(waves), strict=True):
        hypothesis = found[0][3]
        total = 0.0
        tokens = torch.tensor([hypothesis.yseq[:-1]])
        each = []
        for one in models:
            with torch.no_grad():
                encoded, lengths = one.encode([one.prepare(0, wave)])
                sizes = torch.tensor([tokens.size(1)])
                logits = one.model.decoder(encoded, lengths, tokens, sizes)[0][0]
            each.append(logits.softmax(dim=-1))
        average = ((each[0] + each[1]) / 2).log()
        ended = hypothesis.yseq[1:] if len(hypothesis.yseq) < 10 else hypothesis.yseq[1:9]
        total = sum(average[i, token].item() for i, token in enumerate(ended))
        assert hypothesis.scores["decoder"] == pytest.approx(total, abs=1e-3)


def test_nothing_depends_on_the_batch_nor_is_the_cache_of_one_alone_counted(
    model, other, recipe, waves, tmp_path
):
    both = load(model, ensemble=[other.directory])
    for wave, found in zip(waves, both(waves), strict=True):
        assert ids(both(wave)) == ids(found)
    costs = []
    for number, ensemble in enumerate(([], [other.file])):
        cost, failed = decode(
            task="asr", train_config=model.config_file, model_file=model.file, ensemble=ensemble,
            token_list=None, inference_config=OPTIONS, data_dir=recipe / "dump/raw/test",
            keys=None, output_dir=tmp_path / str(number), batch_size=2, max_memory_bytes=None,
            ngpu=0, progress=False,
        )  # fmt: skip
        assert not failed
        costs.append(cost)
    assert costs[1]["cache_bytes_prefix_peak"] > 2 * costs[0]["cache_bytes_prefix_peak"] > 0
    for cost in costs:
        assert 0 < cost["mean_memory_bytes"] <= cost["peak_memory_bytes"]


def test_a_member_that_does_not_fit_is_named(model, recipe, make_model, tmp_path):
    tokens = ["<blank>", "<unk>", "<space>", *"bcdefghijklmnopa", "<sos/eos>"]
    shuffled = make_model(recipe, "shuffled", "decoder_only", {"token_list": tokens})
    with pytest.raises(UserError, match=f"{shuffled.file}: has other tokens than the first model"):
        load(model, ensemble=[shuffled.file])
    slow = {"encoder_conf": {"output_size": 16, "attention_heads": 2, "linear_units": 32,
            "num_blocks": 1, "conv_strides": [2, 1]}}  # fmt: skip
    frames = make_model(recipe, "frames", "decoder_only", slow)
    with pytest.raises(UserError, match="makes another number of frames .* ctc_weight 0"):
        load(model, ctc_weight=0.3, ensemble=[frames.file])
    assert load(model, ensemble=[frames.file])(np.zeros(5000, dtype="f4"))
    with pytest.raises(UserError, match="no such directory or zip file of a trained model"):
        load(model, ensemble=[tmp_path / "nothing"])


def test_a_forced_prefix_begins_every_hypothesis(model, waves):
    for options in ({"nbest": 3}, {"nbest": 3, "sampling": True}, {"ctc_weight": 0.3}):
        for found in load(model, forced_prefix="dab", **options)(waves):
            assert found
            assert all(result[0].startswith("dab") for result in found)
    with pytest.raises(UserError, match="forced_prefix: the model has no tokens for 'ä'"):
        load(model, forced_prefix="dä")
    with pytest.raises(UserError, match="forced_prefix must be a text, not 3"):
        load(model, forced_prefix=3)


def test_samples_follow_from_the_seed_and_the_utterance(model, waves):
    first, again, other = (
        load(model, nbest=3, ctc_weight=None, sampling=True, seed=seed) for seed in (1, 1, 2)
    )
    drawn = [ids(found) for found in first(waves)]
    assert drawn == [ids(again(wave)) for wave in waves]
    assert drawn != [ids(found) for found in other(waves)]
    with pytest.raises(UserError, match="sampling draws by the decoder: ctc_weight must be 0"):
        load(model, sampling=True, ctc_weight=0.5)
    with pytest.raises(UserError, match="sampling needs the scores of all tokens"):
        load(model, sampling=True, ngram_file="a.arpa", ngram_scorer="part")


def test_the_command_line_takes_all_options_and_several_models(model, other, recipe, capsys):
    audio = recipe / "dump/raw/test/utt1.flac"
    base = ["transcribe", "--model", str(model.directory), "--json", "--device", "cpu"]
    arguments = "--maxlenratio -8 --ctc_weight 0 --forced_prefix dab --lenpen 0.5"
    command = [*base, "--beam_size", "3", "--inference_args", arguments]
    assert main([*command, "--model", str(other.directory), str(audio)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    both = load(model, ensemble=[other.directory], forced_prefix="dab", lenpen=0.5)
    text = both(soundfile.read(audio, dtype="float32")[0])[0][0]
    assert json.loads(line)["text"] == text
    assert main([*base, "--inference_args", "--beam 3", str(audio)]) == 1
    assert "--inference_args: " in (told := capsys.readouterr().err) and "'beam'" in told
