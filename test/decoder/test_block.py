import torch
import torch.nn.functional as F

from mtla_espnet.decoder.block import Block
from mtla_espnet.position import Positions
from strategies import SIZE, build


def test_block_is_pre_norm_with_two_residuals():
    block = Block(build(("mha", {})), 48, dropout_rate=0.0)
    x, position = torch.randn(2, 5, SIZE), Positions(torch.arange(5).expand(2, 5))
    h = F.layer_norm(x, (SIZE,))
    expected = x + block.attention(h, h, position, position)
    h = F.layer_norm(expected, (SIZE,))
    up, _, _, down = block.feed_forward
    expected = expected + F.relu(h @ up.weight.T + up.bias) @ down.weight.T + down.bias
    assert (block(x, position) - expected).abs().max() < 1e-5
