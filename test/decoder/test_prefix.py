import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.decoder.prefix import Join, Projector

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5)), min_size=1, max_size=4)


@given(pairs)
def test_each_utterance_is_joined_at_its_true_length(sizes):
    prefix_lengths, text_lengths = (torch.tensor(x) for x in zip(*sizes, strict=True))
    prefix = torch.full((len(sizes), int(prefix_lengths.max()), 2), 1e3)
    text = torch.full((len(sizes), int(text_lengths.max()), 2), -1e3)
    for b, (p, t) in enumerate(sizes):
        prefix[b, :p] = torch.arange(p)[:, None].float()
        text[b, :t] = 100.0 + torch.arange(t)[:, None]
    join = Join(prefix_lengths, prefix.size(1), text_lengths, text.size(1))
    joined = join(prefix, text)
    for b, (p, t) in enumerate(sizes):
        expected = [*range(p), *(100 + i for i in range(t))]
        assert joined[b, : p + t, 0].tolist() == expected
        assert (joined[b, p + t :] == 0).all()
        assert join.position.index[b].tolist() == [*range(p + t), *[-1] * (joined.size(1) - p - t)]
        assert join.text_position.index[b, :t].tolist() == list(range(p, p + t))
        assert join.text(joined)[b, :t, 0].tolist() == expected[p:]


def test_projector_is_a_relu_bottleneck_or_nothing():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 8)
    projector = Projector(8, 4)
    down, _, up = projector.layers
    hidden = (x @ down.weight.T + down.bias).clamp_min(0)
    assert torch.allclose(projector(x), hidden @ up.weight.T + up.bias, atol=1e-6)
    assert Projector(8, 0)(x) is x
    assert not list(Projector(8, 0).parameters())
