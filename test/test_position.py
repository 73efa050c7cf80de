import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.position import (
    Lengths,
    Positions,
    chunk_encoding,
    extremes,
    positions,
    rotate,
)
from reference import attention as reference


def test_positions_are_right_padded():
    assert positions(torch.tensor([2, 0, 3]), 3).tolist() == [[0, 1, -1], [-1, -1, -1], [0, 1, 2]]


def test_lengths_say_their_bounds_and_are_plain_in_every_sum():
    plain = torch.tensor([3, 1])
    lengths = Lengths.of(plain, 5, least=0)
    assert lengths.max() == 5 and type(lengths.max()) is int
    assert extremes(lengths) == (0, 5) and extremes(plain) == (1, 3)
    assert lengths.max(dim=0).values.item() == 3
    for computed in (lengths + 1, 1 + lengths, lengths[:, None] > plain, torch.stack([lengths])):
        assert type(computed) is torch.Tensor
    assert (lengths + 1).tolist() == [4, 2]
    plain += 1  # they are the same numbers
    assert lengths.tolist() == [4, 2] and type(plain) is torch.Tensor


@given(st.integers(0, 5000), st.sampled_from([2, 4, 10]))
def test_rotate_equals_the_formula(position, width):
    torch.manual_seed(position)
    x = torch.randn(1, 1, 3, width)
    turned = rotate(x, torch.tensor([[position]]))
    for head in range(3):
        expected = reference.rope(x[0, 0, head].double(), position)
        assert (turned[0, 0, head] - expected).abs().max() < 5e-4  # float32 angles of up to 5000


def test_rotated_products_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 1, 16).double().float()
    near = rotate(q[None], torch.tensor([[3]])) @ rotate(k[None], torch.tensor([[1]])).mT
    far = rotate(q[None], torch.tensor([[103]])) @ rotate(k[None], torch.tensor([[101]])).mT
    assert near.item() == pytest.approx(far.item(), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rotate_keeps_the_dtype_but_turns_in_float32(dtype):
    x = torch.randn(1, 1, 8)
    exact = rotate(x.to(dtype).float(), torch.tensor([[999]]))
    assert torch.equal(rotate(x.to(dtype), torch.tensor([[999]])), exact.to(dtype))


@pytest.mark.parametrize("rotary", [None, torch.tensor([[0.0, 2.5, 40.0]])])
def test_positions_turn_as_their_numbers_do_and_compute_once(rotary):
    index = torch.tensor([[0, 1, 2], [0, 1, -1]])
    position, x = Positions(index, rotary), torch.randn(2, 3, 4, 6)
    turned = rotate(x, index if rotary is None else rotary)
    assert torch.equal(rotate(x, position), turned)
    assert position.rotation(6)[0] is position.rotation(6)[0]
    exact = rotate(x.double(), index if rotary is None else rotary)
    assert torch.equal(rotate(x.double(), position), exact)  # tables of their own dtype


def test_chunk_encoding_interleaves_sine_and_cosine():
    code = chunk_encoding(torch.tensor([0, 7]), 6)
    assert code.shape == (2, 6)
    for k in range(3):
        angle = 7 * 10000.0 ** (-2 * k / 6)
        assert code[1, 2 * k].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert code[1, 2 * k + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
