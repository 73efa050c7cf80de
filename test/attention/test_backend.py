import torch

from mtla_espnet.attention import backend


def test_a_padded_query_sees_the_first_key_so_that_no_row_is_empty():
    seen = backend.visible(torch.tensor([[-1, 1]]), torch.tensor([[0, 1, -1]]))
    assert seen[0, 0].tolist() == [[True, False, False], [True, True, False]]


def test_masked_and_causal_path_agree():
    torch.manual_seed(0)
    position = torch.arange(6)[None]
    query, key, value = torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 5)
    causal = backend.attend(query, key, value, position, position, 0.4)
    masked = backend.attend(query, key, value, position, position.clone(), 0.4)
    assert (causal - masked).abs().max() < 1e-6


def test_cached_attention_equals_attention_over_the_joined_keys():
    torch.manual_seed(0)
    batch, beams, groups, heads = 2, 3, 2, 2
    query = torch.randn(batch * beams, groups, heads, 8)
    prefix = torch.randn(batch, groups, 5, 8), torch.randn(batch, groups, 5, 8)
    suffix = torch.randn(batch * beams, groups, 3, 8), torch.randn(batch * beams, groups, 3, 8)
    prefix_mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    suffix_mask = torch.ones(batch * beams, 3, dtype=torch.bool)
    suffix_mask[4, 1:] = False
    output = backend.attend_cached(query, (*prefix, prefix_mask), (*suffix, suffix_mask), scale=0.3)
    for n in range(batch * beams):
        b = n // beams
        key, value = (
            torch.cat((p[b][:, prefix_mask[b]], s[n][:, suffix_mask[n]]), dim=1)
            for p, s in zip(prefix, suffix, strict=True)
        )
        weights = (query[n] @ key.mT * 0.3).softmax(-1)
        assert (output[n] - weights @ value).abs().max() < 1e-5
