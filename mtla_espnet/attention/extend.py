"""Several new positions of every row over a cache: what steps give one by one, in one pass."""

import torch
from torch import Tensor

from mtla_espnet.attention.base import SelfAttention
from mtla_espnet.attention.mtla import merge_chunks
from mtla_espnet.attention.ops import sdpa
from mtla_espnet.cache.ragged import RaggedCache
from mtla_espnet.position import Positions, accurate, positions


def extend(
    attention: SelfAttention, x: Tensor, cache: RaggedCache, layer: int, counts: Tensor
) -> Tensor:
    """Attend from new positions to all that is cached before them, and cache them.

    `RaggedCache.add` comes before the layers.

    Args:
        attention: of any kind without a window.
        x: (N, L, d), each row's new positions first.
        cache: of the rows; positions of the first call are one causal pass.
        layer: which of its layers this is.
        counts: (N,) int64, new positions of each row; what follows is padding.

    Returns:
        (N, L, d); rows at padding mean nothing.
    """
    size = x.size(1)
    before = cache.held - counts
    count = positions(counts, size)
    if cache.furthest <= size and not bool(before.any()):
        position = Positions(count)
        cache.write(layer, attention.entries(x, position).detach(), counts)
        return attention(x, x, position, position)
    position = Positions(torch.where(count < 0, -1, before[:, None] + count))
    with torch.no_grad():
        joint = torch.cat([linear(x) for linear in attention.layers.entry], dim=-1)
        own = torch.cat(attention.made(joint, position), dim=-1)
        if attention.gates is not None:
            own = _with_earlier_members(attention, own, position.index, cache, layer, before)
        cache.write(layer, own, counts)
    slots = cache.suffix(layer).to(own.dtype)
    key, value = attention.key_value(torch.cat((slots, own), dim=1))
    chunk = torch.arange(slots.size(1), device=x.device)
    finished = chunk < (position.index // cache.form.down_rate)[..., None]
    itself = torch.eye(size, dtype=torch.bool, device=x.device).expand(len(x), -1, -1)
    query = attention.turned(attention.heads(x), position).transpose(1, 2)
    mask = sdpa.kernel_mask(torch.cat((finished, itself), dim=-1)[:, None], query)
    output = sdpa.attend_masked(
        query,
        key.transpose(1, 2),
        value.transpose(1, 2),
        mask,
        attention.softmax_scale,
        attention.dropout if attention.training else 0.0,
    )
    return attention.layers.output(output.transpose(1, 2).flatten(2))


def _with_earlier_members(
    attention: SelfAttention,
    own: Tensor,
    index: Tensor,
    cache: RaggedCache,
    layer: int,
    before: Tensor,
) -> Tensor:
    """Return entries whose key parts are the sums of their chunks so far.

    Args:
        attention: a kind with `gates`.
        own: (N, L, width), of each position alone.
        index: (N, L) true positions, or -1.
        cache: with the sums of the chunks that `own` goes on with.
        layer: of the cache.
        before: (N,) positions cached.
    """
    parts, rate = attention.slot.key_parts, attention.slot.down_rate
    latent, rest = own.split((parts, own.size(-1) - parts), dim=-1)
    vectors, numbers = attention.gates((index.clamp_min(0) // rate).flatten())
    product = (vectors.view(*index.shape, -1) * accurate(latent)).sum(-1)
    weight = (product + numbers.view(index.shape)).sigmoid()
    # Columns from the beginning of a row's unfinished chunk; its sum is that of one member.
    offset = before % rate
    column = offset[:, None] + torch.arange(index.size(1), device=index.device)
    last = (offset - 1).clamp_min(0)[:, None]
    slot = (before // rate).clamp_max(cache.suffix(layer).size(1) - 1)
    row = torch.arange(len(own), device=index.device)
    carried = accurate(cache.suffix(layer)[row, slot, :parts]) * (offset > 0)[:, None]
    size = index.size(1) + rate - 1

    def laid(first: Tensor, new: Tensor) -> Tensor:
        """Put (N, 1, ...) and (N, L, ...) in their columns."""
        shape = (-1, -1, *new.shape[2:])
        where = [each.view(*each.shape, *(1,) * (new.dim() - 2)) for each in (last, column)]
        canvas = new.new_zeros(len(new), size, *new.shape[2:])
        canvas.scatter_(1, where[0].expand(-1, *shape[1:]), first)
        return canvas.scatter_(1, where[1].expand(-1, *shape[1:]), new)

    summed = merge_chunks(
        laid(carried[:, None], accurate(latent)),
        laid(torch.ones_like(weight[:, :1]), weight.masked_fill(index < 0, 0.0)),
        torch.zeros_like(offset)[:, None].expand(-1, size),
        rate,
    )
    merged = summed.gather(1, column[..., None].expand(-1, -1, parts))
    return torch.cat((merged.to(rest.dtype), rest), dim=-1)
