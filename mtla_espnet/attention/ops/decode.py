"""The operations of a decoding step over a `GraphCache`, in plain PyTorch.

Each has a Triton kernel of the same name and signature in `decode_triton`, which
CUDA tensors take; what is here is what a kernel must equal, and what runs elsewhere.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mtla_espnet.cache.graph import GraphCache
from mtla_espnet.position import accurate


def _offset(cache: GraphCache) -> Tensor:
    """Return (N,) int64: the newest position, counted from the suffix's first slot."""
    offset = cache.lengths % cache.form.down_rate + cache.step
    return offset.long().repeat_interleave(cache.beams)


def _open_plane(cache: GraphCache, step: Tensor) -> Tensor:
    """Return (1,) int64: the first plane of `store` for unfinished slots at a step."""
    return cache.capacity + step.long() % 2 * cache.form.open_slots


def _own_plane(cache: GraphCache) -> Tensor:
    """Return (N,) int64: the plane of `store` that each row's newest position is in."""
    rate, offset = cache.form.down_rate, _offset(cache)
    unfinished = _open_plane(cache, cache.step)
    if cache.form.window:
        return unfinished + offset % rate
    return torch.where(offset % rate == rate - 1, offset // rate, unfinished)


def _rotate(x: Tensor, cache: GraphCache) -> Tensor:
    """Turn (N, heads, D) at each row's newest position."""
    position = (cache.lengths + cache.step).long().repeat_interleave(cache.beams)
    cosine, sine = cache.angles[position][:, None].unbind(-1)
    even, odd = accurate(x).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def _rows(cache: GraphCache) -> Tensor:
    return torch.arange(cache.rows, device=cache.device)


def advance(cache: GraphCache) -> None:
    """Let the ancestor index follow `cache.parents`, and add the newest slot to it."""
    turn = cache.step.long() % 2
    ancestor = cache.ancestor.index_select(0, 1 - turn)[0][cache.parents]
    slot = (_offset(cache) // cache.form.down_rate)[:, None]
    index = torch.arange(cache.capacity, device=ancestor.device)
    ancestor = torch.where(index == slot, _rows(cache).int()[:, None], ancestor)
    cache.ancestor.index_copy_(0, turn, ancestor[None])


def write(
    entry: Tensor,
    query: Tensor,
    norm: torch.nn.Module | None,
    gates: tuple[Tensor, Tensor] | None,
    cache: GraphCache,
    layer: int,
) -> None:
    """Cache the newest position, and turn the queries' rotary part.

    Args:
        entry: (N, width): a slot's numbers before the norm and the rotary turn.
        query: (N, H, D); the rotary part is turned in place.
        norm: of each group's key part, with a weight, a bias and eps; None: there is none.
        gates: vectors (J, G * k) and numbers (J,) of chunk j, float32: key part c counts
            sigmoid(vector . c + number) times, and is added to those of earlier members of the
            chunk. None: positions stay apart.
        cache: written in place.
        layer: which layer.
    """
    form = cache.form
    own, rest = entry[:, : form.key_parts], entry[:, form.key_parts :]
    if norm is not None:
        groups = torch.group_norm(own, form.groups, norm.weight, norm.bias, norm.eps)
        own = groups.to(entry.dtype)
    if form.shared_width:
        rest = _rotate(rest[:, None], cache)[:, 0]
    else:
        own = _rotate(own.unflatten(-1, (form.groups, -1)), cache).flatten(1)
    if gates is not None:
        rate, offset = form.down_rate, _offset(cache)
        chunk = (cache.lengths + cache.step).long().repeat_interleave(cache.beams) // rate
        own = accurate(own)
        own = own * ((gates[0][chunk] * own).sum(dim=-1) + gates[1][chunk]).sigmoid()[:, None]
        before = _open_plane(cache, cache.step + 1)
        partial = cache.store[layer][before, cache.parents, : form.key_parts]
        own = own + partial.masked_fill((offset % rate == 0)[:, None], 0.0)
    if form.window:  # earlier members come along from the parent
        planes = torch.arange(form.open_slots, device=entry.device)[:, None]
        store = cache.store[layer]
        kept = store[_open_plane(cache, cache.step + 1) + planes, cache.parents]
        store[_open_plane(cache, cache.step) + planes, _rows(cache)] = kept
    entry = torch.cat((own.to(entry.dtype), rest), dim=-1)
    cache.store[layer][_own_plane(cache), _rows(cache)] = entry
    turned = query[..., -form.rotary_width :]
    turned.copy_(_rotate(turned, cache))


def merge(merge_window: Callable[[Tensor], Tensor], cache: GraphCache, layer: int) -> None:
    """Write the slot that the newest position finishes, where it finishes one.

    Args:
        merge_window: windows (N, s, width) -> their slots (N, width).
        cache: written in place.
        layer: which layer.
    """
    first = _open_plane(cache, cache.step)
    planes = first + torch.arange(cache.form.open_slots, device=first.device)
    window = cache.store[layer].index_select(0, planes).transpose(0, 1)
    offset, rate = _offset(cache), cache.form.down_rate
    full = offset % rate == rate - 1
    # elsewhere the newest position is written over itself: a graph has no branch
    plane = torch.where(full, offset // rate, _own_plane(cache))
    kept = window[_rows(cache), offset % rate]
    merged = torch.where(full[:, None], merge_window(window).to(window.dtype), kept)
    cache.store[layer][plane, _rows(cache)] = merged


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
    held = held < (cache.lengths // cache.form.down_rate)[:, None]
    scores = scores.masked_fill(~held[:, None, None], float("-inf"))
    lse = scores.logsumexp(dim=-1)
    weight = (scores - lse.clamp_min(torch.finfo(lse.dtype).min)[..., None]).exp()
    output = torch.einsum("bwhp,bphd->bwhd", weight, value)
    return output.flatten(0, 1).to(cache.prefix_value.dtype), lse.flatten(0, 1)


def _suffix(cache: GraphCache, layer: int) -> tuple[Tensor, Tensor]:
    """Return each row's slots and open ones (N, S, width), and which of them it sees."""
    form, row = cache.form, _rows(cache)[:, None]
    slot = (_offset(cache) // form.down_rate)[:, None]
    index = torch.arange(cache.capacity, device=slot.device)
    before = index < slot
    ancestor = cache.ancestor.index_select(0, cache.step.long() % 2)[0].long()
    if form.window:
        planes = torch.arange(form.open_slots, device=slot.device)
        own_seen = planes <= (_offset(cache) % form.down_rate)[:, None]
        own = _open_plane(cache, cache.step) + planes.expand(cache.rows, -1)
    else:
        own, own_seen = _own_plane(cache)[:, None], torch.ones_like(before[:, :1])
    plane = torch.cat((index.expand_as(before), own), dim=1)
    ancestor = torch.cat((ancestor, row.expand_as(own)), dim=1)
    seen = torch.cat((before, own_seen), dim=1)
    return accurate(cache.store[layer][plane, ancestor]), seen


def attend_suffix(
    latent: Tensor | None,
    query: Tensor,
    output: Tensor,
    lse: Tensor,
    cache: GraphCache,
    layer: int,
    scale: float,
) -> Tensor | None:
    """Attend to the suffix, as a part of one softmax with the prefix.

    Args:
        latent: (H, N, k), queries of latents without position; None: `query` reads slots.
        query: (N, H, D); with latents only its rotary part is taken.
        output: (N, H, Dv) of `attend_prefix`; scaled in place to its share, and without
            latents made that of the whole softmax.
        lse: (N, H) of `attend_prefix`.
        cache: with the newest position.
        layer: which layer.
        scale: of the scores.

    Returns:
        (H, N, k), the suffix's share of the latents; None without them.
    """
    slots, seen = _suffix(cache, layer)
    if latent is not None:
        shared = query[..., query.size(-1) - cache.form.shared_width :]
        query = torch.cat((latent.transpose(0, 1), shared), dim=-1)
    key, value = (x.transpose(1, 2) for x in cache.form.parts(slots))
    query = accurate(query).unflatten(1, (key.size(1), -1))  # (N, G, H / G, D)
    scores = query @ key.transpose(-1, -2) * scale
    scores = scores.masked_fill(~seen[:, None, None], float("-inf")).flatten(1, 2)
    whole = torch.logaddexp(scores.logsumexp(dim=-1), lse)
    output.mul_((lse - whole).exp()[..., None])
    weight = (scores - whole[..., None]).exp().unflatten(1, (key.size(1), -1))
    own = (weight @ value).flatten(1, 2)
    if latent is None:
        output.add_(own)
        return None
    return own.transpose(0, 1).to(latent.dtype)


def add_norm(x: Tensor, added: Tensor, norm: Callable[[Tensor], Tensor]) -> Tensor:
    """Add (N, d) `added` to `x` in place and return the norm of the sum."""
    return norm(x.add_(added))
