import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from interpreted import run_interpreted
from mtla_espnet.attention.ops import choose, chunked_cuda
from mtla_espnet.position import rotate, rotation


def test_packed_weight_gives_values_and_whole_keys():
    torch.manual_seed(0)
    heads, nope, rope, value, rank = 2, 3, 2, 5, 4
    weight = torch.randn(heads * (nope + value), rank)
    latent, rotary = torch.randn(7, rank), torch.randn(7, rope)
    packed = F.linear(
        torch.cat((latent, rotary), dim=-1),
        chunked_cuda.pack_weight(weight, heads, nope, rope, value),
    ).unflatten(-1, (heads, -1))
    assert packed.size(-1) == 16
    both = (latent @ weight.T).unflatten(-1, (heads, nope + value))
    assert torch.equal(packed[..., :value], both[..., nope:])
    assert torch.equal(packed[..., 8:10], rotary[:, None].expand(-1, heads, -1))
    assert torch.equal(packed[..., 10:13], both[..., :nope])
    assert not packed[..., value:8].any() and not packed[..., 13:].any()


def dense(query, key_value, position, sizes, rate, scale):
    """The same attention in plain operations with a dense mask."""
    nope, rope, value = sizes
    plain, turned = query.split((nope, rope), dim=-1)
    query = torch.cat((rotate(turned, position), plain), dim=-1).transpose(1, 2)
    start = -(-value // 8) * 8
    key = key_value[..., start : start + nope + rope].transpose(1, 2)
    size = position.size(1)
    number = torch.arange(size, device=query.device)
    before = (number // rate)[None] < (number // rate)[:, None]
    mask = before & ((number + 1) % rate == 0)[None]
    mask = mask | torch.eye(size, dtype=torch.bool, device=query.device)
    scores = (query @ key.mT * scale).masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ key_value[..., :value].transpose(1, 2)).transpose(1, 2)


def test_interpreted_kernels_equal_plain_attention_with_gradients():
    code = "import interpreted_chunked as i, test_chunked_cuda as t; i.main(t.dense)"
    run_interpreted(code, lines=10)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", ["flash", "cudnn"])
@pytest.mark.parametrize("size", [3, 9, 257])
@pytest.mark.parametrize(
    ("rate", "sizes", "dtype"),
    [
        (1, (64, 32, 64), torch.bfloat16),
        (2, (64, 32, 64), torch.bfloat16),
        (3, (64, 32, 64), torch.float16),
        (2, (36, 18, 36), torch.bfloat16),
        (1, (16, 8, 40), torch.bfloat16),
        (2, (16, 8, 40), torch.bfloat16),
    ],
    ids=str,
)
def test_fused_is_within_twice_plain_attention(kernel, size, rate, sizes, dtype):
    """Ragged last chunks, widths that are padded, values wider than keys."""
    if kernel == "cudnn" and size <= 2 * rate:
        pytest.skip("cuDNN refuses one query with one key, and `chunked_kernel` leaves it out")
    torch.manual_seed(size)
    nope, rope, value = sizes
    heads, batch, device = 8, 2, "cuda"
    start, end = (-(-width // 8) * 8 for width in (value, nope + rope))
    query = torch.randn(batch, size, heads, nope + rope, device=device).to(dtype)
    key_value = torch.randn(batch, size, heads, start + end, device=device).to(dtype)
    key_value[..., value:start] = key_value[..., start + nope + rope :] = 0
    grad = torch.randn(batch, size, heads, value, device=device).to(dtype)
    position = torch.arange(size, device=device) + torch.tensor([[0], [5]], device=device)

    def run(attend, precise):
        cast = [x.to(precise).requires_grad_(True) for x in (query, key_value)]
        output = attend(*cast)
        return [y.float() for y in (output, *torch.autograd.grad(output, cast, grad.to(precise)))]

    def ours(query, key_value):
        tables = rotation(position, rope)
        return chunked_cuda.attend(kernel, query, key_value, *tables, rate, value, 0.1)

    def plain(query, key_value):
        return dense(query, key_value, position, sizes, rate, 0.1)

    truth = run(plain, torch.float32)
    for own, peer, exact in zip(run(ours, dtype), run(plain, dtype), truth, strict=True):
        assert (own - exact).norm() <= 2 * (peer - exact).norm() + 1e-3 * exact.norm()


@pytest.mark.gpu
def test_cudnn_is_left_where_it_would_have_one_query_and_one_key():
    query = torch.empty(1, 4, 1, 8, device="cuda", dtype=torch.bfloat16)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        assert choose.chunked_kernel(query, 0.0, 2) is None


@pytest.mark.gpu
def test_kernel_follows_pytorchs_own_switch():
    query = torch.empty(1, 64, 1, 8, device="cuda", dtype=torch.bfloat16)
    assert choose.chunked_kernel(query, 0.0, 2) == "flash"
    with sdpa_kernel(SDPBackend.MATH):
        assert choose.chunked_kernel(query, 0.0, 2) is None
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        hopper = torch.cuda.get_device_capability() >= (9, 0)
        assert choose.chunked_kernel(query, 0.0, 2) == ("cudnn" if hopper else None)
    assert choose.chunked_kernel(query, 0.1, 2) == "efficient"
    assert choose.chunked_kernel(query.float(), 0.0, 2) == "efficient"
    assert choose.chunked_kernel(query.double(), 0.0, 2) is None
