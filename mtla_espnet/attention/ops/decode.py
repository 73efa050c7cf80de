"""The operations of a decoding step over a `GraphCache`, in plain PyTorch.

Each has a Triton kernel of the same name and signature in `decode_triton`, which
CUDA tensors take; what is here is what a kernel must equal, and what runs elsewhere.
"""

import torch
from torch import Tensor

from mtla_espnet.cache.graph import GraphCache
from mtla_espnet.position import accurate


def _offset(cache: GraphCache) -> Tensor:
    """Return (N,) int64: the newest position, counted from the suffix's first slot."""
    offset = cache.lengths % cache.spec.down_rate + cache.step
    return offset.long().repeat_interleave(cache.beams)


def _own_plane(cache: GraphCache) -> Tensor:
    """Return (N,) int64: the plane of `store` that each row's newest slot is in."""
    rate, offset = cache.spec.down_rate, _offset(cache)
    unfinished = cache.capacity + cache.step.long() % 2
    return torch.where(offset % rate == rate - 1, offset // rate, unfinished)


def _rotate(x: Tensor, cache: GraphCache) -> Tensor:
    """Turn (N, ..., D) at each row's newest position."""
    position = (cache.lengths + cache.step).repeat_interleave(cache.beams)
    angle = cache.angles[position].view(x.size(0), *(1,) * (x.dim() - 2), x.size(-1) // 2, 2)
    cosine, sine = angle.unbind(-1)
    even, odd = accurate(x).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def advance(cache: GraphCache) -> None:
    """Let the ancestor index follow `cache.parents`, and add the newest slot to it."""
    turn = int(cache.step) % 2
    ancestor = cache.ancestor[1 - turn][cache.parents]
    row = torch.arange(cache.rows, device=ancestor.device, dtype=torch.int32)[:, None]
    slot = (_offset(cache) // cache.spec.down_rate)[:, None]
    index = torch.arange(cache.capacity, device=ancestor.device)
    cache.ancestor[turn] = torch.where(index == slot, row, ancestor)


def write_latent(
    joint: Tensor,
    query: Tensor,
    norm: torch.nn.LayerNorm,
    merge: tuple[Tensor, Tensor] | None,
    cache: GraphCache,
    layer: int,
) -> None:
    """Cache the newest position of a latent kind, and turn the queries' rotary part.

    Args:
        joint: (N, r + rope): latent before its norm, and rotary key before its turn.
        query: (N, H, nope + rope); the rotary part is turned in place.
        norm: of the latent.
        merge: of temporal merging, vectors (J, r) and numbers (J,) of chunk j, float32: the
            weight of latent c is sigmoid(vector . c + number). None: latents stay apart.
        cache: written in place.
        layer: which layer.
    """
    rank = norm.normalized_shape[0]
    rope = joint.size(1) - rank
    latent = norm(joint[:, :rank]).to(joint.dtype)
    if merge is not None:
        rate, offset = cache.spec.down_rate, _offset(cache)
        chunk = (cache.lengths + cache.step).long().repeat_interleave(cache.beams) // rate
        latent = accurate(latent)
        weight = ((merge[0][chunk] * latent).sum(dim=-1) + merge[1][chunk]).sigmoid()
        latent = latent * weight[:, None]
        before = cache.capacity + 1 - cache.step.long() % 2
        partial = cache.store[layer, before, cache.parents, :rank]
        latent = latent + partial.masked_fill((offset % rate == 0)[:, None], 0.0)
    entry = torch.cat((latent.to(joint.dtype), _rotate(joint[:, rank:], cache)), dim=-1)
    row = torch.arange(cache.rows, device=entry.device)
    cache.store[layer, _own_plane(cache), row] = entry
    query[..., -rope:] = _rotate(query[..., -rope:], cache)


def write_heads(query: Tensor, key: Tensor, value: Tensor, cache: GraphCache, layer: int) -> None:
    """Cache the newest position of a kind with heads, and turn the queries.

    Args:
        query: (N, H, h), turned in place.
        key: (N, G, h), before its turn.
        value: (N, G, h).
        cache: written in place.
        layer: which layer.
    """
    entry = torch.cat((_rotate(key, cache).flatten(1), value.flatten(1)), dim=-1)
    row = torch.arange(cache.rows, device=entry.device)
    cache.store[layer, _own_plane(cache), row] = entry
    query.copy_(_rotate(query, cache))


def attend_prefix(
    query: Tensor, cache: GraphCache, layer: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Attend from every hypothesis to the finished slots of its utterance's prefix.

    Args:
        query: (N, H, D).
        cache: with `prefix_key` of G heads, G divides H.
        layer: which layer.
        scale: of the scores.

    Returns:
        Output (N, H, Dv), 0 where the prefix has no finished slot, and the log-sum-exp
        of the scores, (N, H) float32.
    """
    shared = query.size(1) // cache.prefix_key.size(3)
    key, value = (
        accurate(x[layer]).repeat_interleave(shared, dim=2)
        for x in (cache.prefix_key, cache.prefix_value)
    )
    query = accurate(query).unflatten(0, (cache.batch, cache.beams))
    scores = torch.einsum("bwhd,bphd->bwhp", query, key) * scale
    held = torch.arange(key.size(1), device=key.device)
    held = held < (cache.lengths // cache.spec.down_rate)[:, None]
    scores = scores.masked_fill(~held[:, None, None], float("-inf"))
    lse = scores.logsumexp(dim=-1)
    weight = (scores - lse.clamp_min(torch.finfo(lse.dtype).min)[..., None]).exp()
    output = torch.einsum("bwhp,bphd->bwhd", weight, value)
    return output.flatten(0, 1).to(cache.prefix_value.dtype), lse.flatten(0, 1)


def _suffix(cache: GraphCache, layer: int) -> tuple[Tensor, Tensor]:
    """Return each row's slots (N, S, width) up to its newest one, and which are held."""
    slot = (_offset(cache) // cache.spec.down_rate)[:, None]
    index = torch.arange(cache.capacity + 1, device=slot.device)
    row = torch.arange(cache.rows, device=slot.device)[:, None]
    ancestor = cache.ancestor[int(cache.step) % 2].long()
    ancestor = torch.where(index < slot, torch.nn.functional.pad(ancestor, (0, 1)), row)
    plane = torch.where(index < slot, index, _own_plane(cache)[:, None])
    return accurate(cache.store[layer][plane, ancestor]), index <= slot


def _merge_suffix(scores, held, value, prefix_lse):
    """Return the suffix's weighted values and the prefix's share of the whole softmax."""
    scores = scores.masked_fill(~held[:, None], float("-inf"))
    lse = torch.logaddexp(scores.logsumexp(dim=-1), prefix_lse)
    own = (scores - lse[..., None]).exp()
    return own, (prefix_lse - lse).exp()[..., None]


def attend_suffix_latent(
    absorbed: Tensor,
    query: Tensor,
    output: Tensor,
    lse: Tensor,
    cache: GraphCache,
    layer: int,
    scale: float,
) -> Tensor:
    """Attend to the suffix in latent space, as a part of one softmax with the prefix.

    Args:
        absorbed: (H, N, r), queries in latent space.
        query: (N, H, nope + rope), of which the rotary part is taken.
        output: (N, H, Dv) of `attend_prefix`; scaled in place to its share.
        lse: (N, H) of `attend_prefix`.
        cache: with [latent ; rotary key] in a slot.
        layer: which layer.
        scale: of the scores.

    Returns:
        (H, N, r), the suffix's share of the latent output.
    """
    rank = absorbed.size(2)
    rope = cache.spec.width - rank
    slots, held = _suffix(cache, layer)
    whole = torch.cat((absorbed.transpose(0, 1), query[..., -rope:]), dim=-1)
    scores = torch.einsum("nhd,nsd->nhs", accurate(whole), slots) * scale
    own, share = _merge_suffix(scores, held, slots, lse)
    output.mul_(share)
    latent = torch.einsum("nhs,nsr->hnr", own, slots[..., :rank])
    return latent.to(absorbed.dtype)


def attend_suffix_heads(
    query: Tensor, output: Tensor, lse: Tensor, cache: GraphCache, layer: int, scale: float
) -> None:
    """Attend to the suffix, and merge with the prefix's part in place.

    Args:
        query: (N, H, h).
        output: (N, H, h) of `attend_prefix`; becomes that of the whole softmax.
        lse: (N, H) of `attend_prefix`.
        cache: with [keys ; values] of G heads in a slot.
        layer: which layer.
        scale: of the scores.
    """
    slots, held = _suffix(cache, layer)
    shared = query.size(1) // cache.prefix_key.size(3)
    key, value = slots.unflatten(-1, (2, -1, query.size(2))).unbind(2)
    key, value = (x.repeat_interleave(shared, dim=2) for x in (key, value))
    scores = torch.einsum("nhd,nshd->nhs", accurate(query), key) * scale
    own, share = _merge_suffix(scores, held, value, lse)
    output.copy_(output * share + torch.einsum("nhs,nshd->nhd", own, value))


def add_norm(x: Tensor, added: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    """Add (N, d) `added` to `x` in place and return the norm of the sum."""
    return norm(x.add_(added))
