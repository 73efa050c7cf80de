import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.files import UserError
from mtla_espnet.frontend.pretrained import LayerSum, StoredLayersFrontend


@settings(deadline=None, max_examples=30, print_blob=True)
@given(num_layers=st.integers(1, 6), seed=st.integers(0, 99))
def test_the_sum_is_weighted_by_softmax_and_one_layer_is_itself(num_layers, seed):
    torch.manual_seed(seed)
    states = torch.randn(num_layers, 2, 3, 4, dtype=torch.float64).float()
    total = LayerSum(num_layers)
    if num_layers > 1:
        total.weights.data = torch.randn(num_layers)
        share = total.weights.detach().exp() / total.weights.detach().exp().sum()
    else:
        assert not list(total.parameters())
        share = torch.ones(1)
    expected = torch.einsum("l,lbtd->btd", share, states)
    torch.testing.assert_close(total(list(states)), expected)
    for layer in range(-num_layers, num_layers):
        assert torch.equal(LayerSum(num_layers, layer)(list(states)), states[layer])


def test_stored_layers_learn_as_layers_do():
    torch.manual_seed(0)
    states = torch.randn(5, 2, 7, 4)
    stored = torch.cat(list(states), dim=-1)
    frontend = StoredLayersFrontend(num_layers=5, layer_size=4)
    online = LayerSum(5)
    features, lengths = frontend(stored, torch.tensor([7, 3]))
    assert frontend.output_size() == 4 and lengths.tolist() == [7, 3]
    torch.testing.assert_close(features, online(list(states)))
    features.square().sum().backward()
    online(list(states)).square().sum().backward()
    torch.testing.assert_close(frontend.layer_sum.weights.grad, online.weights.grad)
    with pytest.raises(UserError, match="have 19 dimensions, not num_layers 5 x layer_size 4"):
        frontend(stored[..., :-1], torch.tensor([7, 3]))
    with pytest.raises(UserError, match="at least 1"):
        StoredLayersFrontend(0, 4)
