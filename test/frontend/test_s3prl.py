import contextlib
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("s3prl", reason="espnet-s3prl is not installed")
with contextlib.redirect_stderr(io.StringIO()):
    from espnet2.asr.frontend.s3prl import S3prlFrontend as ESPnetFrontend

    from mtla_espnet.files import UserError
    from mtla_espnet.frontend.s3prl import S3prlFrontend
    from tiny_upstreams import FAMILIES, MODES, write_checkpoint

TOLERANCE = 1e-5
CASES = [(family, mode) for family in FAMILIES for mode in MODES]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("upstreams")
    return {
        (family, mode): write_checkpoint(root / f"{family}_{mode}.pt", family, mode)
        for family, mode in CASES
    }


LOADED = {}


def loaded(checkpoints, case):
    if case not in LOADED:
        LOADED[case] = frontend(checkpoints, case, multilayer_feature=True).eval()
    return LOADED[case]


def conf(checkpoints, case):
    return {"upstream": f"{case[0]}_local", "path_or_url": str(checkpoints[case])}


def frontend(checkpoints, case, **options):
    return S3prlFrontend(frontend_conf=conf(checkpoints, case), **options)


def noise(lengths, filler=5.0):
    torch.manual_seed(1)
    batch = torch.full((len(lengths), max(lengths)), filler)
    for row, length in zip(batch, lengths, strict=True):
        row[:length] = torch.randn(length) * 0.1
    return batch, torch.tensor(lengths)


@pytest.mark.parametrize("case", CASES, ids="-".join)
@settings(deadline=None, max_examples=6, print_blob=True)
@given(lengths=st.lists(st.integers(1, 5000), min_size=2, max_size=4))
def test_nothing_depends_on_the_batch(checkpoints, case, lengths):
    ours = loaded(checkpoints, case)
    speech, lengths = noise([*lengths, lengths[0]])
    features, n_frames = ours(speech, lengths)
    for i, length in enumerate(lengths):
        alone, frames = ours(speech[i : i + 1, :length], lengths[i : i + 1])
        assert frames[0] == n_frames[i]
        torch.testing.assert_close(features[i, : frames[0]], alone[0], atol=TOLERANCE, rtol=0)
        assert not features[i, frames[0] :].any()


@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.parametrize(
    "options", [{"multilayer_feature": True}, {}, {"layer": 1}], ids=["sum", "last", "one"]
)
def test_an_utterance_has_the_features_of_espnets_front_end(checkpoints, case, options):
    reference = ESPnetFrontend(frontend_conf=conf(checkpoints, case), **options).eval()
    ours = frontend(checkpoints, case, **options).eval()
    assert ours.output_size() == reference.output_size() == 16
    if options.get("multilayer_feature"):
        assert ours.state_dict().keys() == reference.state_dict().keys()
        weights = torch.randn(3)
        reference.featurizer.weights.data = weights
        ours.load_state_dict(reference.state_dict())
    speech, lengths = noise([4000])
    with torch.no_grad():
        expected, expected_frames = reference(speech, lengths)
    features, n_frames = ours(speech, lengths)
    assert n_frames.tolist() == expected_frames.tolist()
    torch.testing.assert_close(features.detach(), expected, atol=TOLERANCE, rtol=0)


def test_padded_batches_are_espnets(checkpoints):
    case = "wavlm", "layer_norm"
    options = {"multilayer_feature": True}
    reference = ESPnetFrontend(frontend_conf=conf(checkpoints, case), **options).eval()
    ours = frontend(checkpoints, case, batching="padded", **options).eval()
    speech, lengths = noise([4000, 2500, 900], filler=0.0)
    with torch.no_grad():
        expected, frames = reference(speech, lengths)
    features, n_frames = ours(speech, lengths)
    assert n_frames.tolist() == frames.tolist()
    for i, frames_i in enumerate(frames):
        here = features[i, :frames_i].detach()
        torch.testing.assert_close(here, expected[i, :frames_i], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_upstream_keeps_nothing_and_the_sum_learns(checkpoints, family):
    ours = frontend(checkpoints, (family, "default"), multilayer_feature=True).train()
    assert not any(module.training for module in ours.upstream.modules())
    features, _ = ours(*noise([3000, 2000]))
    features.square().sum().backward()
    grads = {name for name, each in ours.named_parameters() if each.grad is not None}
    assert grads == {"featurizer.weights"}


@pytest.mark.parametrize("family", FAMILIES)
def test_fine_tuning_reaches_blocks_and_convolutions(checkpoints, family):
    ours = frontend(checkpoints, (family, "default"), freeze=False).train()
    features, _ = ours(*noise([3000, 2000]))
    (features * torch.randn_like(features)).sum().backward()
    sizes = {
        name: each.grad.abs().sum()
        for name, each in ours.named_parameters()
        if each.grad is not None
    }
    for part in ("feature_extractor.conv_layers.0", "encoder.layers.0", "encoder.layers.1"):
        assert any(part in name and size > 0 for name, size in sizes.items()), part


def test_low_precision_and_tiles(checkpoints):
    case = "hubert", "default"
    speech, lengths = noise([3000, 2000])
    high, frames = frontend(checkpoints, case)(speech, lengths)
    low, _ = frontend(checkpoints, case, dtype="bfloat16")(speech, lengths)
    assert low.dtype == torch.float32
    assert 0 < (low - high).abs().max() < 0.05 * high.abs().max()
    tiled = S3prlFrontend(frontend_conf={**conf(checkpoints, case), "tile_factor": 2})
    features, n_frames = tiled(speech, lengths)
    assert n_frames.tolist() == (2 * frames).tolist()
    torch.testing.assert_close(features[:, ::2], high)
    torch.testing.assert_close(features[0, 1::2], high[0])


def test_the_upstream_without_weights():
    ours = S3prlFrontend(frontend_conf={"upstream": "fbank"})
    features, n_frames = ours(*noise([4000, 2000]))
    assert (ours.output_size(), ours.hop_length) == (240, 160)
    assert features.shape == (2, n_frames.max(), 240) and torch.isfinite(features).all()


def test_weights_are_read_again_after_espnets_initialisation(checkpoints):
    ours = frontend(checkpoints, ("wavlm", "default"))
    before = {name: each.clone() for name, each in ours.state_dict().items()}
    for parameter in ours.upstream.parameters():
        parameter.data.zero_()
    ours.reload_pretrained_parameters()
    for name, each in ours.state_dict().items():
        torch.testing.assert_close(each, before[name])


def test_mistakes_are_one_line(checkpoints, tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise OSError("there is no network")

    monkeypatch.setattr("s3prl.util.download._download_url_to_file", no_network)
    monkeypatch.setattr("s3prl.util.download._download_url_to_file_requests", no_network)
    hubert = conf(checkpoints, ("hubert", "default"))
    (tmp_path / "text.pt").write_text("no checkpoint")
    wrong = str(checkpoints["wavlm", "default"])
    wavlm_large = {"frontend_conf": {"upstream": "wavlm_large"}, "download_dir": f"{tmp_path}/hub"}
    elsewhere = {**hubert, "path_or_url": "/no/such.pt"}
    no_checkpoint = {**hubert, "path_or_url": f"{tmp_path}/text.pt"}
    both = {"layer": 1, "multilayer_feature": True}
    for options, message in (
        ({"frontend_conf": {"upstream": "wavlm_larg"}}, "unknown 'wavlm_larg' (nearest: 'wavlm_"),
        ({"frontend_conf": {}}, "frontend_conf.upstream: unknown None"),
        ({"frontend_conf": {"upstreem": "fbank"}}, "frontend_conf.upstreem' (nearest: 'upstream')"),
        ({"frontend_conf": {"upstream": "hubert_local"}}, "hubert_local needs path_or_url"),
        ({"frontend_conf": elsewhere}, "/no/such.pt: no such file"),
        ({"frontend_conf": {**hubert, "path_or_url": wrong}}, "not a checkpoint of hubert_local"),
        ({"frontend_conf": no_checkpoint}, "text.pt: not a checkpoint of hubert_local"),
        (
            wavlm_large,
            f"wavlm_large is not in {tmp_path}/hub and cannot be fetched: give its checkpoint as "
            "frontend_conf: {upstream: wavlm_local, path_or_url: FILE} (OSError: there is no net",
        ),
        ({"frontend_conf": hubert, "layer": 3}, "layer: 3 is not there: the encoder has layers 0"),
        ({"frontend_conf": hubert, **both}, "give one of them"),
        ({"frontend_conf": hubert, "batching": "none"}, "must be exact or padded, not 'none'"),
        ({"frontend_conf": hubert, "fs": 8000}, "reads 16 kHz, not 8000 Hz"),
    ):
        with pytest.raises(UserError) as error:
            S3prlFrontend(**options)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
