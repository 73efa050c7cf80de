import inspect
import math

import pytest
import torch
from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import TooShortUttError
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.encoder.conv1d_subsampling import (
    Conv1dConformerEncoder,
    Conv1dSubsampling,
    Conv1dTransformerEncoder,
)

FEATURES = 5
law = settings(max_examples=30)

layers = st.lists(
    st.tuples(st.sampled_from([1, 3, 5, 7]), st.integers(1, 3), st.sampled_from([4, 6])),
    min_size=1,
    max_size=3,
)
batches = st.lists(st.integers(1, 40), min_size=1, max_size=4)
garbage = st.sampled_from([0.0, 1e4, float("inf"), float("nan")])


def make_subsampling(layer_list, glu):
    torch.manual_seed(len(layer_list))
    kernels, strides, channels = zip(*layer_list, strict=True)
    return Conv1dSubsampling(FEATURES, kernels, strides, channels, glu)


def pad(utterances, filler, extra):
    longest = max(len(utterance) for utterance in utterances) + extra
    batch = torch.full((len(utterances), longest, FEATURES), filler)
    for row, utterance in zip(batch, utterances, strict=True):
        row[: len(utterance)] = utterance
    return batch, torch.tensor([len(utterance) for utterance in utterances])


def by_the_formula(module, features, glu):
    """One utterance (T, C), one output row at a time: sum over the kernel's taps."""
    for convolution in module.convolutions:
        weight, bias = convolution.weight, convolution.bias
        (kernel,), (stride,) = convolution.kernel_size, convolution.stride
        rows = []
        for centre in range(0, len(features), stride):
            row = bias
            for tap in range(kernel):
                frame = centre + tap - kernel // 2
                if 0 <= frame < len(features):
                    row = row + weight[:, :, tap] @ features[frame]
            if glu:
                value, gate = row.chunk(2)
                row = value * torch.sigmoid(gate)
            else:
                row = row.clamp(min=0)
            rows.append(row)
        features = torch.stack(rows)
    return features


@law
@given(layers, st.booleans(), batches, garbage, st.integers(0, 5))
@torch.no_grad()
def test_a_batch_equals_the_formula_for_each_utterance(layer_list, glu, lengths, filler, extra):
    module = make_subsampling(layer_list, glu)
    utterances = [torch.randn(length, FEATURES) for length in lengths]
    hidden, hidden_lengths = module(*pad(utterances, filler, extra))
    assert hidden.shape == (len(lengths), max(hidden_lengths), layer_list[-1][2])
    for _, stride, _ in layer_list:
        lengths = [math.ceil(length / stride) for length in lengths]
    assert hidden_lengths.tolist() == lengths
    for row, length, utterance in zip(hidden, hidden_lengths, utterances, strict=True):
        torch.testing.assert_close(row[:length], by_the_formula(module, utterance, glu))


@pytest.mark.parametrize("encoder_class", [Conv1dConformerEncoder, Conv1dTransformerEncoder])
def test_an_encoded_utterance_does_not_depend_on_its_batch(encoder_class):
    torch.manual_seed(0)
    encoder = encoder_class(
        FEATURES, 16, attention_heads=2, linear_units=32, num_blocks=2, conv_glu=True
    ).eval()

    @law
    @given(batches, garbage, st.integers(0, 5))
    @torch.no_grad()
    def check(lengths, filler, extra):
        utterances = [torch.randn(length, FEATURES) for length in lengths]
        encoded, encoded_lengths, _ = encoder(*pad(utterances, filler, extra))
        for row, length, utterance in zip(encoded, encoded_lengths, utterances, strict=True):
            alone, alone_length, _ = encoder(*pad([utterance], 0.0, 0))
            assert alone_length.tolist() == [length] == [alone.size(1)]
            torch.testing.assert_close(row[:length], alone[0], atol=1e-5, rtol=1e-4)

    check()


def test_padding_gets_no_gradient():
    module = make_subsampling([(5, 2, 6), (3, 2, 4)], glu=True)
    features = torch.randn(2, 9, FEATURES, requires_grad=True)
    hidden, lengths = module(features, torch.tensor([9, 4]))
    (hidden[0].sum() + hidden[1, : lengths[1]].sum()).backward()
    assert features.grad[1, 4:].eq(0).all()
    assert features.grad[1, :4].ne(0).any()


def test_an_utterance_without_frames_is_too_short_in_any_batch():
    module = make_subsampling([(3, 2, 4)], glu=False)
    with pytest.raises(TooShortUttError, match="has 0 frames") as caught:
        module(torch.randn(2, 9, FEATURES), torch.tensor([9, 0]))
    assert (caught.value.actual_size, caught.value.limit) == (0, 1)


def test_the_conformer_takes_positions_that_do_not_depend_on_the_batch_unless_told():
    latest = Conv1dConformerEncoder(FEATURES, 16, attention_heads=2, num_blocks=1)
    legacy = Conv1dConformerEncoder(
        FEATURES, 16, attention_heads=2, num_blocks=1, rel_pos_type="legacy"
    )
    assert type(latest.embed[-1]).__name__ == "RelPositionalEncoding"
    assert type(legacy.embed[-1]).__name__ == "LegacyRelPositionalEncoding"


@pytest.mark.parametrize("encoder_class", [Conv1dConformerEncoder, Conv1dTransformerEncoder])
def test_the_signature_holds_our_options_and_espnets(encoder_class):
    parameters = inspect.signature(encoder_class).parameters
    ours = {"conv_kernel_sizes", "conv_strides", "conv_channels", "conv_glu"}
    espnets = set(inspect.signature(encoder_class.__mro__[2]).parameters)
    assert set(parameters) == ours | espnets - {"input_layer"}
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    encoder_class(FEATURES, **defaults)
    assert defaults.get("rel_pos_type", "latest") == "latest"


def test_channels_are_one_width_or_one_a_layer_or_the_model_size():
    def widths(channels):
        encoder = Conv1dTransformerEncoder(
            FEATURES, 16, attention_heads=2, num_blocks=1, conv_channels=channels
        )
        return [convolution.out_channels for convolution in encoder.subsampling.convolutions]

    assert widths(None) == [16, 16]
    assert widths(12) == [12, 12]
    assert widths([12, 8]) == [12, 8]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv_strides": [2]}, "one value a layer"),
        ({"conv_kernel_sizes": [], "conv_strides": []}, "one value a layer"),
        ({"conv_kernel_sizes": [4, 5]}, "conv_kernel_sizes must be odd"),
        ({"conv_strides": [0, 2]}, "must be at least 1"),
        ({"conv_channels": 0}, "must be at least 1"),
        ({"input_layer": "conv2d"}, "input_layer"),
    ],
)
def test_illegal_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Conv1dConformerEncoder(FEATURES, 16, **options)


def test_an_option_that_espnet_does_not_know_is_named():
    with pytest.raises(TypeError, match="num_layers"):
        Conv1dTransformerEncoder(FEATURES, 16, num_layers=2)
