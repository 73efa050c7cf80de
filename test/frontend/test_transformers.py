import json

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.files import UserError
from mtla_espnet.frontend.transformers import TransformersFrontend

TOLERANCE = 1e-5
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
FAMILIES = {
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
}
CASES = [(family, norm) for family in FAMILIES for norm in ("group", "layer")]


@pytest.fixture(autouse=True, scope="module")
def quiet():
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def whisper(positions=1500):
    torch.manual_seed(0)
    return transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(
            d_model=16,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            vocab_size=10,
            max_source_positions=positions,
            **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
            decoder_start_token_id=0,
        )
    ).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Family (and kind of normalisation) -> folder and its model."""
    root = tmp_path_factory.mktemp("models")
    made = {}
    for family, norm in CASES:
        config_class, model_class = FAMILIES[family]
        torch.manual_seed(0)
        stable = norm == "layer"
        config = config_class(**SMALL, feat_extract_norm=norm, do_stable_layer_norm=stable)
        made[family, norm] = root / f"{family}_{norm}", model_class(config).eval()
        made[family, norm][1].save_pretrained(made[family, norm][0])
        if stable:  # as the large models of the hub have it
            path = made[family, norm][0] / "preprocessor_config.json"
            path.write_text(json.dumps({"do_normalize": True, "feature_size": 1}))
    made["whisper", ""] = root / "whisper", whisper()
    made["whisper", ""][1].save_pretrained(root / "whisper")
    return made


def noise(lengths, filler=5.0):
    """A ragged batch whose padding is loud."""
    torch.manual_seed(1)
    batch = torch.full((len(lengths), max(lengths)), filler)
    for row, length in zip(batch, lengths, strict=True):
        row[:length] = torch.randn(length) * 0.1
    return batch, torch.tensor(lengths)


@pytest.mark.parametrize("case", CASES, ids="_".join)
def test_layers_are_those_of_transformers_one_by_one(folders, case):
    folder, model = folders[case]
    frontend = TransformersFrontend(str(folder))
    speech, lengths = noise([6000, 2345, 900])
    layers = frontend.layers(speech, lengths)
    for i, length in enumerate(lengths):
        wave = speech[i : i + 1, :length]
        if case[1] == "layer":
            wave = (wave - wave.mean()) / (wave.var(unbiased=False) + 1e-7).sqrt()
        with torch.no_grad():
            found = model(wave, output_hidden_states=True)
        reference = [*found.hidden_states[:-1], found.last_hidden_state]
        assert len(layers.states) == len(reference) == 3
        assert layers.lengths[i] == reference[0].size(1)
        for state, expected in zip(layers.states, reference, strict=True):
            here = state[i, : layers.lengths[i]]
            torch.testing.assert_close(here, expected[0], atol=TOLERANCE, rtol=0)


def test_whisper_sees_what_its_own_feature_extractor_gives(folders):
    frontend = TransformersFrontend(str(folders["whisper", ""][0]))
    extractor = transformers.WhisperFeatureExtractor()
    speech, lengths = noise([4000, 1717, 161, 100])
    silent = speech.masked_fill(torch.arange(4000) >= lengths[:, None], 0.0)
    features, n_frames = frontend.encoder.log_mel(silent, lengths)
    assert n_frames.tolist() == [25, 11, 2, 1]
    for i, length in enumerate(lengths):
        wave = speech[i, :length].numpy()
        reference = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features[0]
        here = features[i, :, : n_frames[i]]
        torch.testing.assert_close(here, reference[:, : n_frames[i]], atol=TOLERANCE, rtol=0)
        assert not features[i, :, n_frames[i] :].any()


def test_whisper_equals_transformers_where_that_takes_the_length(tmp_path):
    model = whisper(positions=50)
    model.save_pretrained(tmp_path)
    frontend = TransformersFrontend(str(tmp_path))
    speech, lengths = noise([16000])
    features, _ = frontend.encoder.log_mel(speech, lengths)
    with torch.no_grad():
        reference = model.model.encoder(features).last_hidden_state
    layers = frontend.layers(speech, lengths)
    torch.testing.assert_close(layers.states[-1], reference, atol=TOLERANCE, rtol=0)
    with pytest.raises(UserError, match=r"1\.02 s of audio are longer than the 50 positions"):
        frontend(*noise([16161]))


@pytest.mark.parametrize("case", [*CASES, ("whisper", "")], ids="_".join)
@settings(deadline=None, max_examples=8, print_blob=True)
@given(lengths=st.lists(st.integers(400, 5000), min_size=2, max_size=4))
def test_nothing_depends_on_the_batch(folders, case, lengths):
    frontend = loaded(folders, case)
    speech, lengths = noise(lengths)
    features, n_frames = frontend(speech, lengths)
    for i, length in enumerate(lengths):
        alone, frames = frontend(speech[i : i + 1, :length], lengths[i : i + 1])
        assert frames[0] == n_frames[i]
        torch.testing.assert_close(features[i, : frames[0]], alone[0], atol=TOLERANCE, rtol=0)
        assert not features[i, frames[0] :].any()


LOADED = {}


def loaded(folders, case):
    if case not in LOADED:
        LOADED[case] = TransformersFrontend(str(folders[case][0]))
    return LOADED[case]


def test_what_is_shorter_than_a_frame_has_none(folders):
    features, n_frames = loaded(folders, ("wav2vec2", "layer"))(*noise([399, 700]))
    assert n_frames.tolist() == [0, 1]
    assert torch.isfinite(features).all() and not features[0].any()


@pytest.mark.parametrize("case", [("wavlm", "group"), ("whisper", "")], ids="_".join)
def test_a_frozen_encoder_keeps_nothing_and_the_sum_learns(folders, case):
    frontend = TransformersFrontend(str(folders[case][0])).train()
    assert not any(module.training for module in frontend.encoder.modules())
    features, _ = frontend(*noise([3000, 2000]))
    features.square().sum().backward()
    grads = {name for name, each in frontend.named_parameters() if each.grad is not None}
    assert grads == {"featurizer.weights"}
    assert not any(each.requires_grad for each in frontend.encoder.parameters())


@pytest.mark.parametrize("case", [("hubert", "layer"), ("whisper", "")], ids="_".join)
def test_fine_tuning_reaches_every_weight(folders, case):
    frontend = TransformersFrontend(str(folders[case][0]), freeze=False).train()
    assert frontend.encoder.training
    features, _ = frontend(*noise([3000, 2000]))
    (features * torch.randn_like(features)).sum().backward()
    without = {name for name, each in frontend.named_parameters() if each.grad is None}
    # what only pretraining masks with, and positions that are never trained
    assert all("masked_spec_embed" in name or "embed_positions" in name for name in without)


def test_one_layer_and_low_precision(folders):
    folder = str(folders["wav2vec2", "group"][0])
    speech, lengths = noise([3000, 2000])
    states, n_frames = loaded(folders, ("wav2vec2", "group")).layers(speech, lengths)
    for layer in (0, 2, -1):
        features, _ = TransformersFrontend(folder, layer=layer)(speech, lengths)
        torch.testing.assert_close(features[0], states[layer][0])
    normal, _ = TransformersFrontend(folder, layer=1, normalize=True)(speech, lengths)
    expected = torch.nn.functional.layer_norm(states[1], states[1].shape[-1:])
    torch.testing.assert_close(normal[0], expected[0])
    low, _ = TransformersFrontend(folder, dtype="bfloat16")(speech, lengths)
    high, _ = loaded(folders, ("wav2vec2", "group"))(speech, lengths)
    assert low.dtype == torch.float32
    error = (low - high).abs().max()
    assert 0 < error < 0.05 * high.abs().max()


def test_weights_are_read_again_after_espnets_initialisation(folders):
    frontend = TransformersFrontend(str(folders["whisper", ""][0]))
    before = {name: each.clone() for name, each in frontend.state_dict().items()}
    for parameter in frontend.encoder.parameters():
        parameter.data.zero_()
    frontend.reload_pretrained_parameters()
    for name, each in frontend.state_dict().items():
        torch.testing.assert_close(each, before[name])


def test_a_model_that_cannot_be_used_is_named(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    wavlm = folders["wavlm", "group"][0]
    broken = tmp_path / "broken"
    model = FAMILIES["wavlm"][1].from_pretrained(wavlm)
    state = model.state_dict()
    del state["encoder.layers.1.final_layer_norm.bias"]
    model.save_pretrained(broken, state_dict=state)
    bert = tmp_path / "bert"
    transformers.BertConfig().save_pretrained(bert)
    (tmp_path / "empty").mkdir()
    for name, message in (
        (broken, "1 tensors of the encoder are missing, the first: encoder.layers.1.final_layer"),
        (bert, "holds a 'bert' model, not one of hubert, wav2vec2, wavlm, whisper"),
        (tmp_path / "empty", "config.json: no such file"),
        (tmp_path / "none", "none: no such folder"),
        ("someone/no-model", "put its config.json and model.safetensors into a folder"),
        ("", "name a folder or a model's id"),
    ):
        with pytest.raises(UserError) as error:
            TransformersFrontend(str(name))
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    for options, message in (
        ({"layer": 3}, "layer: 3 is not there: the encoder has layers 0 to 2"),
        ({"fs": "8k"}, "reads 16 kHz, not 8000 Hz"),
        ({"dtype": "float8"}, "dtype must be float32 or bfloat16"),
    ):
        with pytest.raises(UserError, match=message):
            TransformersFrontend(str(wavlm), **options)
