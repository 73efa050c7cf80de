"""Front ends on pretrained encoders inside of ESPnet's models, built from recipes' YAML."""

import argparse
import contextlib
import io
from pathlib import Path

import pytest
import torch
import transformers

from mtla_espnet.yaml_files import load_yaml

pytest.importorskip("s3prl", reason="espnet-s3prl is not installed")
with contextlib.redirect_stderr(io.StringIO()):
    import mtla_espnet.tasks  # noqa: F401  (registers)
    from tiny_upstreams import write_checkpoint

pytestmark = [pytest.mark.espnet, pytest.mark.filterwarnings("ignore")]
CHECKOUT = Path(__file__).resolve().parents[2]
TOKENS = ["<blank>", "<unk>", *"abcdefgh", "<sos/eos>"]


def build(config):
    from espnet2.tasks.asr import ASRTask

    defaults = vars(ASRTask.get_parser().parse_args([]))
    known = {key: value for key, value in config.items() if key in defaults}
    torch.manual_seed(0)
    arguments = argparse.Namespace(**{**defaults, **known, "token_list": TOKENS})
    return ASRTask.build_model(arguments)


def batch():
    torch.manual_seed(1)
    lengths = torch.tensor([9000, 6000])
    text = torch.tensor([[2, 3, 4], [5, 6, -1]])
    return {
        "speech": torch.randn(2, 9000) * 0.1,
        "speech_lengths": lengths,
        "text": text,
        "text_lengths": torch.tensor([3, 2]),
    }


def whisper_folder(path):
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24
    )
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    WhisperEncoder(config).save_pretrained(path)
    return path


def train_a_step(model):
    model.train()
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), 0.1)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    loss, _, _ = model(**batch())
    loss.backward()
    optimizer.step()
    after = model.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("recipe", ["asr1/conf/train_asr_whisper.yaml"])
def test_the_tuxpaint_model_learns_but_its_whisper_does_not(tmp_path, recipe):
    config = load_yaml(CHECKOUT / "egs2/tuxpaint" / recipe)
    config["frontend_conf"]["model"] = str(whisper_folder(tmp_path / "whisper"))
    for part in ("encoder_conf", "decoder_conf"):
        config[part] |= {"num_blocks": 1, "linear_units": 16, "attention_heads": 2}
    config["encoder_conf"]["output_size"] = 16
    model = build(config)
    assert model.normalize is None
    changed = train_a_step(model)
    assert "frontend.featurizer.weights" in changed
    assert {"encoder.", "decoder.", "ctc."} <= {name.partition(".")[0] + "." for name in changed}
    assert not any(name.startswith("frontend.encoder.") for name in changed)


def test_a_pretrained_encoder_alone_is_the_encoder(tmp_path):
    config = {
        "frontend": "transformers",
        "frontend_conf": {"model": str(whisper_folder(tmp_path / "w")), "freeze": False},
        "normalize": None,
        "encoder": "conv1d_transformer",
        "encoder_conf": {
            "output_size": 16,
            "attention_heads": 2,
            "num_blocks": 0,
            "conv_kernel_sizes": [3],
            "conv_strides": [2],
        },
        "decoder": "decoder_only",
        "decoder_conf": {
            "attention": "mtla",
            "attention_heads": 2,
            "linear_units": 16,
            "num_blocks": 1,
        },
    }
    changed = train_a_step(build(config))
    assert any(name.startswith("frontend.encoder.network.layers.0.") for name in changed)
    assert not any(name.startswith("encoder.encoders.") for name in changed)


@pytest.mark.slow
def test_the_papers_front_end_of_ami_with_a_stand_in_of_its_size(tmp_path):
    checkpoint = write_checkpoint(
        tmp_path / "large.pt", "wavlm", "layer_norm", layers=24, width=1024, heads=16
    )
    config = load_yaml(CHECKOUT / "egs2/ami/asr1/conf/train_asr.yaml")
    config["frontend_conf"] = {
        "frontend_conf": {"upstream": "wavlm_local", "path_or_url": str(checkpoint)},
        "multilayer_feature": True,
    }
    for part in ("encoder_conf", "decoder_conf"):
        config[part] |= {"num_blocks": 1, "linear_units": 16}
    model = build(config)
    frontend = model.frontend
    assert (frontend.layer_sum.num_layers, frontend.output_size()) == (25, 1024)
    assert model.preencoder.linear_out.weight.shape == (80, 1024)
    (convolution,) = model.encoder.subsampling.convolutions
    assert (convolution.in_channels, convolution.kernel_size, convolution.stride) == (
        80,
        (5,),
        (2,),
    )
    changed = train_a_step(model)
    assert {"frontend.featurizer.weights", "preencoder.linear_out.weight"} <= changed
    assert not any(name.startswith("frontend.upstream.") for name in changed)
