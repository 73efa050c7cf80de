"""A kind of attention that says what a slot is, and nothing else."""

from torch import nn

from mtla_espnet.attention.base import SelfAttention, StepLayers
from mtla_espnet.cache.slot import SlotForm


class SharedKeyValue(SelfAttention):
    """One vector a position is key and value of all heads; a rotary part is key alone."""

    def __init__(self, embed_dim, num_heads, dropout=0.0, *, width: int = 12):
        super().__init__(embed_dim, num_heads, dropout)
        self.slot = SlotForm(width, shared_width=4, rotary_width=4)
        self.softmax_scale = self.slot.width**-0.5
        self.query = nn.Linear(embed_dim, num_heads * self.slot.width)
        self.both = nn.Linear(embed_dim, self.slot.width)
        self.output = nn.Linear(num_heads * width, embed_dim)

    @property
    def layers(self):
        """Projections alone."""
        return StepLayers(self.query, (self.both,), self.output)
