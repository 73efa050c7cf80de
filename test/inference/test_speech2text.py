import logging
import math

import numpy as np
import pytest
import soundfile
import torch

import mtla_espnet
from mtla_espnet.files import UserError
from mtla_espnet.inference import model_search
from mtla_espnet.inference.meter import Meter
from mtla_espnet.inference.speech2text import Speech2Text

OPTIONS = {"beam_size": 3, "ctc_weight": 0.3, "maxlenratio": -12}

pytestmark = pytest.mark.espnet


def load(model, **options):
    return Speech2Text(model.config_file, model.file, **OPTIONS | options)


def espnet(model, recipe, tmp_path, **options):
    """ESPnet's own class on the same files."""
    import yaml
    from espnet2.bin.asr_inference import Speech2Text as Peer

    config = yaml.safe_load(model.config_file.read_text())
    config["normalize_conf"]["stats_file"] = str(recipe / "exp/asr_stats/feats_stats.npz")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return Peer(str(tmp_path / "config.yaml"), str(model.file), **OPTIONS | options)


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        # at the length limit ESPnet appends <sos/eos> to what has just ended as well
        ended_twice = b[1][-1:] == ["<sos/eos>"]
        assert a[2] == (b[2][:-1] if ended_twice else b[2])
        assert a[0] == b[0].removesuffix("<sos/eos>").strip()
        assert a[3].score == pytest.approx(float(b[3].score), abs=1e-3)


@pytest.fixture(scope="module")
def speech2text(model):
    return load(model, nbest=3)


@pytest.fixture(scope="module")
def waves(recipe):
    paths = sorted((recipe / "dump/raw/test").glob("*.flac"))
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


def test_the_public_name_is_the_class():
    assert mtla_espnet.Speech2Text is Speech2Text


def test_the_call_is_espnets(speech2text, waves):
    text, token, token_int, hypothesis = speech2text(waves[0])[0]
    assert text == "".join(token).replace("<space>", " ").strip()
    assert [speech2text.model.token_list[i] for i in token_int] == token
    sos_eos = speech2text.model.eos
    assert list(hypothesis.yseq) == [sos_eos, *token_int, sos_eos]
    assert speech2text.rate_hz == 8000


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3, 1.0])
def test_nbest_is_espnets(model, recipe, waves, tmp_path, ctc_weight):
    options = {"ctc_weight": ctc_weight, "nbest": 3, "penalty": 0.2}
    ours, peer = load(model, **options), espnet(model, recipe, tmp_path, **options)
    for wave in waves[:3]:
        assert_same(ours(wave), peer(wave))


def test_espnets_decoder_decodes_as_in_espnet(transformer, recipe, waves, tmp_path):
    ours, peer = load(transformer, nbest=3), espnet(transformer, recipe, tmp_path, nbest=3)
    for found, wave in zip(ours(waves), waves, strict=True):
        assert_same(found, peer(wave))


def test_a_list_is_decoded_as_one_by_one(speech2text, waves):
    for found, wave in zip(speech2text(waves), waves, strict=True):
        assert_same(found, speech2text(wave))
    assert speech2text([]) == []


def test_an_utterance_too_short_has_no_hypothesis(speech2text, waves, caplog):
    with caplog.at_level(logging.WARNING):
        found = speech2text([waves[0], waves[0][:30], waves[1]])
    assert_same(found[0], speech2text(waves[0]))
    assert found[1] == []
    assert_same(found[2], speech2text(waves[1]))
    assert "speech of 30 samples is too short" in caplog.text


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_the_searches_for_gpus_find_the_same(model, waves, monkeypatch, ctc_weight):
    expected = load(model, ctc_weight=ctc_weight, nbest=2)(waves)
    monkeypatch.setattr(model_search, "why_no_graph", lambda *arguments: "")
    fixed, meter = load(model, ctc_weight=ctc_weight, nbest=2), Meter("cpu")
    for _ in range(2):  # the second time in the same buffers
        for a, b in zip(fixed.batch_decode(waves, meter), expected, strict=True):
            assert_same(a, b)
    cost = meter.cost
    assert cost.decoder_s > 0
    assert 0 < cost.cache_bytes_prefix_peak < cost.cache_bytes_peak <= cost.cache_bytes_allocated


def test_a_prefix_is_kept_as_asked(model, waves):
    found, sizes = [], []
    for prefix_cache in ("latent", "materialised", "auto"):
        meter = Meter("cpu")
        found.append(load(model, prefix_cache=prefix_cache).batch_decode(waves, meter))
        sizes.append(meter.cost.cache_bytes_prefix_peak)
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            assert_same(a, b)
    # heads of 8: keys of 8 + 4 and values of 8, for two heads; latents of 32 and 4
    assert sizes[1] / sizes[0] == 2 * 20 / 36
    assert sizes[2] == sizes[0]  # short


def test_latent_prefixes_are_for_the_plain_search(model, monkeypatch, caplog):
    monkeypatch.setattr(model_search, "why_no_graph", lambda *arguments: "")
    caplog.set_level("DEBUG")
    load(model)
    assert "The decoder's steps run in CUDA graphs on cpu, by Triton kernels" in caplog.text
    load(model, prefix_cache="latent")
    why = "prefix_cache is latent, and they keep keys and values"
    assert f"The decoder's steps run without CUDA graphs: {why}" in caplog.text


def test_speech_as_people_have_it_is_what_the_model_takes(speech2text, waves, recipe):
    wave, path = waves[1], recipe / "dump/raw/test/utt2.flac"
    for same in (wave[:, None], wave[None], torch.tensor(wave)[None], soundfile.read(path), path):
        assert_same(speech2text(same), speech2text(wave))
    assert_same(speech2text([str(path), (wave, 8000)])[1], speech2text(wave))


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
@pytest.mark.parametrize("graphs", [False, True])
def test_scores_that_are_no_numbers_are_told_of_their_utterance_alone(
    model, waves, monkeypatch, ctc_weight, graphs
):
    monkeypatch.setattr(model_search, "why_no_graph", lambda *arguments: "" if graphs else "no")
    speech2text = load(model, ctc_weight=ctc_weight)
    expected = speech2text(waves)
    encode = speech2text.model.encode

    def spoilt(speech, speech_lengths):
        encoded, lengths = encode(speech=speech, speech_lengths=speech_lengths)
        encoded[(speech_lengths == len(waves[1])).nonzero()[:1, 0], 0] = math.nan
        return encoded, lengths

    monkeypatch.setattr(speech2text.model, "encode", spoilt)
    prepared = [speech2text.prepare(number, wave) for number, wave in enumerate(waves)]
    outcomes = speech2text.decode_prepared(prepared)
    assert str(outcomes[1]) == "its scores are not finite numbers, with weights in float32"
    for number in (0, 2, 3, 4):
        assert_same(outcomes[number], expected[number])
    with pytest.raises(UserError, match="utterance 1: its scores are not finite numbers"):
        speech2text(waves)


def test_what_finds_nothing_is_searched_again_with_a_smaller_minlenratio(
    model, recipe, waves, tmp_path, caplog
):
    # what ends at the length limit is a token too short, until minlenratio has come down
    options = {"maxlenratio": 0.35, "minlenratio": 0.35}
    ours = load(model, **options)
    with caplog.at_level(logging.WARNING):
        found = ours(waves[0])
    assert_same(found, espnet(model, recipe, tmp_path, **options)(waves[0]))
    assert caplog.text.count("found nothing: now with minlenratio 0.25") == 1


def test_the_dtype_is_that_of_the_decoder(model, waves):
    low = load(model, dtype="bfloat16")
    assert {p.dtype for p in low.model.decoder.parameters()} == {torch.bfloat16}
    exact = load(model)(waves[0])[0][3].score
    assert low(waves[0])[0][3].score == pytest.approx(exact, abs=2.0)


class TestErrors:
    """Each is one line that names what is wrong."""

    def test_audio(self, speech2text):
        with pytest.raises(UserError, match="utterance 0 has no samples"):
            speech2text(np.zeros(0, dtype=np.float32))
        with pytest.raises(UserError, match="utterance 1 has samples that are not finite numbers"):
            speech2text([np.zeros(800), np.full(800, np.nan)])
        with pytest.raises(UserError, match="utterance 0 is one number: give an array"):
            speech2text([0.1, 0.2, 0.3])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"beam_size": 0}, "beam_size must be in 1 to 10000, not 0"),
            ({"beam_size": 99}, "beam_size 99 is more than the 20 tokens of the vocabulary"),
            ({"ctc_weight": 1.5}, "ctc_weight must be in 0 to 1, not 1.5"),
            ({"penalty": "a"}, "penalty must be a number, not 'a'"),
            ({"temperature": 0}, "temperature must be in 0.01 to 100, not 0"),
            ({"pre_beam_ratio": 0.5}, "pre_beam_ratio must be in 1 to 1000000, not 0.5"),
            ({"dtype": "int8"}, "dtype 'int8' is unknown"),
            ({"prefix_cache": "large"}, "prefix_cache 'large' is unknown: say auto, latent"),
            ({"ngram_weight": -1}, "ngram_weight must be in 0 to 100, not -1"),
            ({"lm_weight": math.nan}, "lm_weight must be a number, not nan"),
            ({"ngram_file": "3gram.bin"}, "3gram.bin: no such n-gram file"),
            ({"lm_train_config": "lm.yaml"}, "lm_train_config lm.yaml needs lm_file"),
        ],
    )
    def test_option(self, model, options, message):
        with pytest.raises(UserError, match=message):
            load(model, **options)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_device(self, model):
        with pytest.raises(UserError, match="CUDA is not available"):
            load(model, device="cuda")
        with pytest.raises(UserError, match="device 'gpu' is unknown"):
            load(model, device="gpu")
