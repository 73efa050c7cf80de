"""The prefix: the encoder output's projector, and its join with the text."""

import torch
from torch import Tensor, nn

from mtla_espnet.position import Positions, positions


class Projector(nn.Module):
    """What makes the prefix of the encoder's output: frames are stacked, then projected.

    A bottleneck k d -> units -> d with ReLU.

    Args:
        size: d.
        units: of the bottleneck; 0: one linear layer k d -> d, and none where k is 1.
        stride: k, frames that become one position; the last ones are filled up with zeros.
    """

    def __init__(self, size: int, units: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        wide = size * stride
        self.layers: nn.Module
        if units:
            self.layers = nn.Sequential(nn.Linear(wide, units), nn.ReLU(), nn.Linear(units, size))
        else:
            self.layers = nn.Identity() if stride == 1 else nn.Linear(wide, size)

    def positions(self, frames):
        """Return the positions of so many frames (int or int tensor): ceil(T / k)."""
        return -(-frames // self.stride) if self.stride > 1 else frames

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d), zero in the padding, -> (B, ceil(T / k), d)."""
        if self.stride > 1:
            x = nn.functional.pad(x, (0, 0, 0, -x.size(1) % self.stride))
            x = x.unflatten(1, (-1, self.stride)).flatten(2)
        return self.layers(x)


class Join:
    """Where each position of `[prefix ; text]` lies, for one ragged batch.

    Every utterance is joined at its true length: its text begins right after its own
    prefix, so padding takes no position.

    Args:
        prefix_lengths: (B,) int64.
        prefix_size: P, padded length of the prefixes.
        text_lengths: (B,) int64.
        text_size: L, padded length of the texts.
        size: T; None: the longest prefix + text, for which the host waits.

    Attributes:
        position: of the joined rows (B, T), -1 where padded.
        text_position: of (B, L), -1 where padded.
    """

    def __init__(
        self,
        prefix_lengths: Tensor,
        prefix_size: int,
        text_lengths: Tensor,
        text_size: int,
        size: int | None = None,
    ):
        lengths = prefix_lengths + text_lengths
        joined = positions(lengths, int(lengths.max()) if size is None else size)
        text = positions(text_lengths, text_size)
        text = torch.where(text >= 0, text + prefix_lengths[:, None], -1)
        self.position, self.text_position = Positions(joined), Positions(text)
        # column of cat([prefix, text], dim=1) that each joined row comes from
        after = prefix_size - prefix_lengths[:, None]
        shift = torch.where(joined >= prefix_lengths[:, None], after, 0)
        self._column = (joined + shift).clamp_min(0)
        self._padding = (joined < 0)[..., None]

    def __call__(self, prefix: Tensor, text: Tensor) -> Tensor:
        """Return [prefix ; text] with padding last and zero, (B, T, d)."""
        both = torch.cat((prefix, text), dim=1)
        return _take(both, self._column).masked_fill(self._padding, 0.0)

    def text(self, joined: Tensor) -> Tensor:
        """Return the text rows of a joined (B, T, d), (B, L, d)."""
        return _take(joined, self.text_position.index.clamp_min(0))


def _take(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index[..., None].expand(-1, -1, x.size(-1)))
