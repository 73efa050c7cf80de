"""One new position of every hypothesis in one layer, over a `DecodingCache`.

The same function as a kind's `forward`, by test, for any kind: it reads what a kind says of
its slots and layers. With live weights it serves ESPnet's search and the stand-alone modules.
With prepared ones (copies, laid out for products of a few rows) it is what the plain beam
search spends its time in: weights of one input are one product, what depends on positions
alone is made once a step for all layers, the weight of a latent is one dot product with a
table, and what is new is written in place.
"""

import torch
from torch import Tensor

from mtla_espnet.attention.step_weights import JointLinear, LiveLinear, StepNorm, weight_of
from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.position import accurate, complex_rotation

# A table of chunks is made for so many at first, then doubled.
_FIRST_CHUNKS = 256


class Step:
    """A layer's step.

    Args:
        attention: a `SelfAttention`.
        layer: its number in the cache.
        prepared: copy the weights: they are not to change any more.
        fixed_gates: make the table of the weights of latents once, though other weights are
            read at every call; as `prepared` does.
    """

    def __init__(
        self, attention, layer: int = 0, prepared: bool = False, fixed_gates: bool = False
    ):
        self._attention, self._layer, self._prepared = attention, layer, prepared
        self._slot, layers = attention.slot, attention.layers
        self._heads, self._scale = attention.num_heads, attention.softmax_scale
        linear = JointLinear if prepared else LiveLinear
        self._project = linear(layers.query, *layers.entry)
        self._query_width = layers.query.out_features
        self._query_up = None
        if layers.query_up is not None:
            self._query_up, self._query_norm = linear(layers.query_up), StepNorm(layers.query_norm)
        self._norm = layers.norm and StepNorm(layers.norm, self._slot.groups)
        self._output = linear(layers.output)
        self._absorbs = layers.up is not None
        if self._absorbs:
            key, value = absorbed(attention)
            if prepared:
                key, value = key.contiguous(), value.contiguous()
            self._key_weight, self._value_weight = key, value
        self._fixed_gates, self._chunks = prepared or fixed_gates, 0
        head = layers.query_up or layers.query
        widths = self._query_width, head.out_features // self._heads
        widths += self._slot.key_parts, self._slot.width
        self._even = not any(width % 2 for width in widths)

    @torch.no_grad()
    def __call__(self, x: Tensor, cache: DecodingCache, rotary: Tensor | None = None) -> Tensor:
        """Attend and write the cache in place.

        Args:
            x: (N, d), normalised input.
            cache: of all layers.
            rotary: (N or 1, 1), as of `SelfAttention.step`.

        Returns:
            (N, d).
        """
        slot, rows = self._slot, len(x)
        joint = self._project(x)
        query, new = joint[:, : self._query_width], joint[:, self._query_width :]
        if self._query_up is not None:
            query = self._query_up(self._query_norm(query))
        angle = cache.angle
        if rotary is not None:
            form = slot.rotary_width, accurate(x[:0]).dtype, slot.frequencies
            angle = complex_rotation(rotary, *form)
        # `view`, here as elsewhere: `unflatten` does the same in Python, at 3 us a call
        query = query.view(rows, self._heads, -1)
        if slot.shared_width:
            _turn(query[..., -slot.shared_width :], angle, self._even)
            _turn(new[:, None, -slot.shared_width :], angle, self._even)
        else:  # whole queries and keys, side by side
            width = self._query_width + slot.key_parts
            _turn(joint[:, :width].view(rows, -1, slot.key_width), angle, self._even)
        self._write(new, cache)
        reading = query
        if self._absorbs:
            nope = query[..., : query.size(2) - slot.shared_width]
            latent = torch.bmm(nope.transpose(0, 1), self._key_weight).transpose(0, 1)
            reading = torch.cat((latent, query[..., nope.size(2) :]), dim=-1)
        return self._output(self._attend(query, reading, cache).flatten(1))

    def _attend(self, query: Tensor, reading: Tensor, cache: DecodingCache) -> Tensor:
        """Attend to prefix and suffix by one softmax.

        Args:
            query: (N, H, D), for materialised keys.
            reading: (N, H, key_width + shared_width), for slots.
            cache: with the newest position.

        Returns:
            (N, H, Dv).
        """
        groups, rows, layer = self._slot.groups, len(query), self._layer
        key, value = self._slot.read(cache.suffix(layer).to(query.dtype))  # (N * G, S, ...)
        own = torch.baddbmm(
            _spread(cache.suffix_bias, groups),
            reading.reshape(rows * groups, -1, reading.size(2)),
            key.transpose(1, 2),
            alpha=self._scale,
        )
        if cache.materialised:
            asking, (key, prefix_value) = query, cache.prefix_key_value(layer)
            key_heads = key.size(1)
            key, prefix_value = key.flatten(0, 1), prefix_value.flatten(0, 1)
        else:
            asking, key_heads = reading, groups
            key, prefix_value = self._slot.read(cache.prefix(layer).to(query.dtype))
        batch = cache.batch
        asking = _fold(asking, batch, key_heads)
        shared = _product(_spread(cache.prefix_bias, key_heads), key, asking, self._scale)
        shared = _unfold(shared, batch, key_heads, rows)
        shared, own = _softmax(shared, own.view(*shared.shape[:-1], -1))
        own = own.view(rows * groups, -1, own.size(-1))
        output = torch.bmm(_fold(shared, batch, key_heads), prefix_value)
        output = _unfold(output, batch, key_heads, rows).reshape(rows * groups, -1, output.size(2))
        if not self._absorbs:
            return torch.baddbmm(output, own, value).view(rows, self._heads, -1)
        if cache.materialised:
            values = self._values(torch.bmm(own, value))
            return values.add_(output.view(values.shape))
        return self._values(torch.baddbmm(output, own, value))

    def _values(self, latent: Tensor) -> Tensor:
        """(N * G, H / G, r) -> (N, H, v)."""
        latent = latent.view(-1, self._heads, latent.size(2)).transpose(0, 1)
        return torch.bmm(latent, self._value_weight).transpose(0, 1)

    def _write(self, new: Tensor, cache: DecodingCache) -> None:
        """Cache the newest position, given a slot's numbers (N, width) before their norm."""
        slot, newest = self._slot, cache.newest
        slots = cache.slots(self._layer)
        gated = self._attention.gates is not None
        if self._norm is not None or gated:
            own, rest = new[:, : slot.key_parts], new[:, slot.key_parts :]
            if self._norm is not None:
                own = self._norm(own)
            if gated:
                own = self._weighted(own, slots, newest, cache)
            new = torch.cat((own.to(slots.dtype), rest.to(slots.dtype)), dim=-1)
        slots.index_copy_(0, newest, new.to(slots.dtype))
        if slot.window:
            window = slots.view(len(new), -1, slot.width)[:, : slot.open_slots]
            merged = self._attention.merge_window(window)
            slots.index_copy_(0, cache.finished, merged.to(slots.dtype))

    def _weighted(self, own: Tensor, slots: Tensor, newest: Tensor, cache: DecodingCache) -> Tensor:
        """Return the newest slots' key parts, those of earlier members included."""
        vectors, numbers = self._gates(cache)
        own = accurate(own)
        weight = torch.baddbmm(numbers, vectors[:, None], own[..., None]).sigmoid_()
        if self._slot.down_rate == 1:
            return own * weight[:, 0]
        # a slot is zero before its first member
        partial = accurate(slots.index_select(0, newest)[:, : self._slot.key_parts])
        return torch.addcmul(partial, own, weight[:, 0])

    def _gates(self, cache: DecodingCache) -> tuple[Tensor, Tensor]:
        """Return (N, G * k) and (N, 1, 1) of the newest positions' chunks."""
        if not self._fixed_gates:
            vectors, numbers = self._attention.gates(cache.chunk)
            return vectors, numbers[:, None, None]
        needed = cache.furthest // self._slot.down_rate + 1
        if needed > self._chunks:
            self._chunks = max(_FIRST_CHUNKS, 2 * needed)
            chunks = torch.arange(self._chunks, device=cache.lengths.device)
            self._vectors, self._numbers = self._attention.gates(chunks)
        numbers = self._numbers.index_select(0, cache.chunk)
        return self._vectors.index_select(0, cache.chunk), numbers[:, None, None]


def absorbed(attention) -> tuple[Tensor, Tensor]:
    """Return the matrices that let heads read latents, views of `StepLayers.up`.

    Args:
        attention: a `SelfAttention` with latents.

    Returns:
        (H, nope, r), of queries, and (H, r, v), of values.
    """
    weight = weight_of(attention.layers.up).detach().unflatten(0, (attention.num_heads, -1))
    nope = weight.size(1) - attention.value_width
    return weight[:, :nope], weight[:, nope:].transpose(1, 2)


def _turn(x: Tensor, angle: Tensor, even: bool) -> None:
    """Turn the last axis of (N, heads, D) in place.

    Args:
        x: pairs of real and imaginary parts.
        angle: (N or 1, 1, D / 2) complex, by which pairs are multiplied.
        even: whether all strides and offsets of `x` are even, as a view of pairs wants it.
    """
    if even and x.dtype in (torch.float32, torch.float64):
        torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)).mul_(angle)
    else:
        pairs = torch.view_as_complex(accurate(x).unflatten(-1, (-1, 2)).contiguous())
        x.copy_(torch.view_as_real(pairs * angle).flatten(-2))


def _fold(x: Tensor, batch: int, groups: int) -> Tensor:
    """(N, H, X), or what `_unfold` gives, -> (B * G, N / B * H / G, X).

    The hypotheses of an utterance become rows of one product.
    """
    if groups == 1:
        return x.reshape(batch, x.size(0) * x.size(1) // batch, x.size(-1))
    if x.dim() == 3:
        x = x.view(batch, len(x) // batch, groups, x.size(1) // groups, x.size(2))
    return x.transpose(1, 2).reshape(batch * groups, x.size(1) * x.size(3), x.size(4))


def _unfold(x: Tensor, batch: int, groups: int, rows: int) -> Tensor:
    """(B * G, M, X) -> (B, N / B, G, H / G, X), of one group (B, M, X): as (N, H, X) lies."""
    if groups == 1:
        return x
    return x.unflatten(0, (batch, groups)).unflatten(2, (rows // batch, -1)).transpose(1, 2)


def _product(bias: Tensor, key: Tensor, query: Tensor, scale: float) -> Tensor:
    """(X, 1, P), (X, P, D), (X, M, D) -> scores (X, M, P)."""
    # transposed, since MKL takes half the time for it
    product = torch.baddbmm(bias.transpose(1, 2), key, query.transpose(1, 2), alpha=scale)
    return product.transpose(1, 2)


def _spread(bias: Tensor, groups: int) -> Tensor:
    """Repeat the rows of a bias once a key head; one for all rows stays one."""
    return bias.repeat_interleave(groups, dim=0) if groups > 1 and len(bias) > 1 else bias


def _softmax(shared: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise both parts of the scores as one, along the last axis."""
    scores = accurate(torch.cat((shared, own), dim=-1))
    weight = scores.softmax(dim=-1).to(own.dtype)
    return weight[..., : shared.size(-1)], weight[..., shared.size(-1) :]
