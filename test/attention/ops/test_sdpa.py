import pytest
import torch

from mtla_espnet.attention.ops import sdpa
from mtla_espnet.position import Positions


def test_a_padded_query_sees_the_first_key_so_that_no_row_is_empty():
    seen = sdpa.visible(torch.tensor([[-1, 1]]), torch.tensor([[0, 1, -1]]))
    assert seen[0, 0].tolist() == [[True, False, False], [True, True, False]]


def test_masked_and_causal_path_agree():
    torch.manual_seed(0)
    position, same = (Positions(torch.arange(6)[None]) for _ in range(2))
    query, key, value = torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 5)
    causal = sdpa.attend(query, key, value, position, position, 0.4)
    masked = sdpa.attend(query, key, value, position, same, 0.4)
    assert (causal - masked).abs().max() < 1e-6


def test_own_keys_among_the_keys_or_beside_them_give_the_same():
    torch.manual_seed(0)
    batch, heads, length, chunks = 2, 3, 4, 5
    query, own_key = torch.randn(2, batch, heads, length, 8)
    own_value = torch.randn(batch, heads, length, 6)
    key, value = torch.randn(batch, heads, chunks, 8), torch.randn(batch, heads, chunks, 6)
    before = torch.rand(batch, length, chunks) < 0.5
    before[0, 0] = False  # sees itself alone
    beside = sdpa.attend_with_own(query, key, value, before[:, None], own_key, own_value, 0.4)
    seen = torch.cat((before, torch.eye(length, dtype=torch.bool).expand(batch, -1, -1)), dim=-1)
    among = sdpa.attend_masked(
        query,
        torch.cat((key, own_key), dim=2),
        torch.cat((value, own_value), dim=2),
        sdpa.kernel_mask(seen[:, None], query),
        0.4,
    )
    assert (among - beside).abs().max() < 1e-6
    assert (among[0, :, 0] - own_value[0, :, 0]).abs().max() < 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_mask_is_added_on_a_gpu_as_a_boolean_one_hides(dtype):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 8, device="cuda", dtype=dtype)
    seen = torch.rand(2, 1, 7, 7, device="cuda") < 0.5
    seen[..., 0] = True
    added = sdpa.attend_masked(query, key, value, sdpa.kernel_mask(seen, query), 0.4)
    hidden = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=0.4
    )
    assert (added - hidden).abs().max() <= 4 * torch.finfo(dtype).eps * hidden.abs().max()
