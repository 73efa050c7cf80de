"""The encoder in half precision, by PyTorch's attention."""

from types import SimpleNamespace

import pytest
import torch

from mtla_espnet.inference.precision import EncoderPrecision, chosen_dtype, use_sdpa

pytestmark = pytest.mark.espnet
SIZES = [30, 47, 12]
SMALL = {"output_size": 16, "attention_heads": 2, "linear_units": 32, "num_blocks": 2}


def encoders():
    from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
    from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder

    from mtla_espnet.encoder.conv1d_subsampling import (
        Conv1dConformerEncoder,
        Conv1dTransformerEncoder,
    )

    branches = {"cgmlp_linear_units": 32, "cgmlp_conv_kernel": 3}
    yield Conv1dTransformerEncoder(20, **SMALL)
    yield Conv1dConformerEncoder(20, **SMALL)
    yield ConformerEncoder(20, **SMALL, rel_pos_type="legacy")
    yield EBranchformerEncoder(20, **SMALL, **branches, rel_pos_type="latest")


def random(encoder):
    torch.manual_seed(0)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder.eval()


@torch.no_grad()
def output(encoder):
    torch.manual_seed(1)
    features = torch.randn(len(SIZES), max(SIZES), 20)
    encoded, lengths, _ = encoder(features, torch.tensor(SIZES))
    return [row[:length] for row, length in zip(encoded.float(), lengths.tolist(), strict=True)]


def test_pytorchs_attention_is_the_same_function():
    for encoder in map(random, encoders()):
        expected = output(encoder)
        use_sdpa(encoder)
        assert any(getattr(module, "use_sdpa", False) for module in encoder.modules())
        for ours, plain in zip(output(encoder), expected, strict=True):
            assert torch.allclose(ours, plain, atol=1e-4)


def test_an_encoder_without_the_option_stays_as_it_is():
    from espnet2.asr.encoder.contextual_block_transformer_encoder import (
        ContextualBlockTransformerEncoder,
    )

    encoder = ContextualBlockTransformerEncoder(80, **SMALL)
    use_sdpa(encoder)
    assert not any(getattr(module, "use_sdpa", False) for module in encoder.modules())


def test_half_precision_is_for_products_on_a_gpu_alone():
    encoder = random(next(encoders()))
    exact = output(encoder)
    model = SimpleNamespace(encoder=encoder)
    for device, dtype in (("cpu", "bfloat16"), ("cuda", "float32")):
        precision = EncoderPrecision(model, torch.device(device), dtype)
        with precision():
            assert all(map(torch.equal, output(encoder), exact))
    precision = EncoderPrecision(model, torch.device("cuda"), "bfloat16")
    precision._device = torch.device("cpu")  # which has autocast too
    with precision():
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        rounded = output(encoder)
    for ours, plain in zip(rounded, exact, strict=True):
        assert 0 < (ours - plain).norm() < 0.05 * plain.norm()


def test_auto_asks_for_kernels():
    assert chosen_dtype("auto", torch.device("cpu")) == "float32"
    assert chosen_dtype("float16", torch.device("cpu")) == "float16"


@pytest.mark.gpu
def test_auto_is_half_precision_on_a_gpu():
    assert chosen_dtype("auto", torch.device("cuda")) == "bfloat16"
