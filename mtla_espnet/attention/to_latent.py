"""From attention with heads of keys and values (mha, gqa, mqa) to latent attention (mla, mtla).

Of one layer: H query heads, G key heads, g(i) the key head of query head i, D numbers a head,
x (d,) what is attended to, X what asks. A rotary pair of neighbours is one complex number, so that
RoPE at position t is a product with e^(i w_k t), k = 0 ... D/2 - 1:

    score of t by query T:  Re sum over k of conj(q_ik e^(i w_k T)) k_gk e^(i w_k t)

Complex-linear maps commute with RoPE. Over calibration inputs, s_g^2 is the energy of the queries
of key head g, and the unitary U of frequency k has the eigenvectors of E[(s k)(s k)^H], largest
first. So key heads are turned into components, and queries by what undoes it:

    z_c = sum over g of conj(U_gc) s_g k_g,   q'_ic = conj(U_g(i)c) q_i / s_g(i)
    conj(q_i) k_g(i) = sum over c of conj(q'_ic) z_c

1. The rotary part of MLA's shared key has the components of largest norm: over all layers, sum of
   |q'_ic| |z_c| times the mean change by the turn, |1 - e^(i w_k n)| over distances n. All layers
   keep as many components of a frequency, so that they share their angles.
2. The rest of the keys, without RoPE, and the values are linear in x. Both are made from one latent
   of r numbers, the largest eigenvectors of the covariance of [M_K k ; M_V v]: M_K^2 is the
   covariance of the queries that read a key, M_V^2 the map from a value to the output, and both
   parts are scaled to the same energy.

With all G D rotary numbers and r >= G D, or with r >= 2 G D and rotary numbers that lose nothing,
the function is the same; LayerNorm of the latent is left out for this.

Sources: choice of pairs by norm: MHA2MLA, arXiv 2502.14837. Turning key heads into components, and
balance of keys and values: TransMLA, arXiv 2502.07864. Weighing by activations: both; here queries
and output weigh too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.mtla import TemporalLatent
from mtla_espnet.user_error import UserError

# Added to the eigenvalues of what weighs keys and values, as a part of their mean: what
# calibration has not seen still counts.
_LEAST_ENERGY = 1e-4
# Added to the covariance of inputs, as a part of their mean square, for the same reason.
_LEAST_INPUT = 1e-6
# Distances over which a turn changes scores.
_DISTANCES = 256


class Moments:
    """Second moments of inputs (d,), with a 1 behind for the bias.

    Args:
        size: d.

    Attributes:
        count: of inputs.
    """

    def __init__(self, size: int):
        self._sum = torch.zeros(size + 1, size + 1, dtype=torch.float64)
        self.count = 0

    def add(self, x: Tensor) -> None:
        """Count the rows of (X, d)."""
        x = x.detach().double()
        x = torch.cat((x, x.new_ones(len(x), 1)), dim=1)
        self._sum += (x.T @ x).cpu()
        self.count += len(x)

    @property
    def mean(self) -> Tensor:
        """(d + 1, d + 1) float64: E[x x^T], with a little of every direction."""
        mean = self._sum / max(self.count, 1)
        least = _LEAST_INPUT * mean.diagonal().mean()
        return mean + least * torch.eye(len(mean), dtype=mean.dtype)


@dataclass
class Heads:
    """Projections of a layer, float64, the bias as their last column; pairs are neighbours.

    Attributes:
        query: (H, D, d + 1).
        key: (G, D, d + 1), G divides H.
        value: (G, D, d + 1).
        output: (d, H * D).
        output_bias: (d,), or None.
        asking: moments of the inputs of queries.
        asked: moments of the inputs of keys and values.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    output_bias: Tensor | None
    asking: Moments
    asked: Moments


def latent_sizes(
    width: int, groups: int, rank: int | None = None, rotary: int | None = None
) -> tuple[int, int]:
    """Return the sizes of the latent attention that attention with heads becomes.

    Args:
        width: D, numbers of a head.
        groups: G, key and value heads.
        rank: r, even; None: 4 D, or all 2 G D where that is less.
        rotary: rotary numbers, even; None: D / 2.

    Returns:
        r, and the rotary numbers.

    Raises:
        UserError: a size that the heads do not have; names it.

    Example:
        >>> latent_sizes(64, 3)
        (256, 32)
    """
    rank = min(4 * width, 2 * groups * width) if rank is None else rank
    rotary = max(2, width // 4 * 2) if rotary is None else rotary
    for name, value, least, most in (
        ("kv_lora_rank", rank, 4, 2 * groups * width),
        ("qk_rope_head_dim", rotary, 2, groups * width),
    ):
        if value % 2 or not least <= value <= most:
            raise UserError(
                f"{name} {value}: say an even number from {least} to {most}; the {groups} key and "
                f"value heads have {width} numbers each"
            )
    return rank, rotary


def with_bias(weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """Return (H, D, d + 1) of a projection (H * D, d) and its bias; float64 on the CPU."""
    column = weight.new_zeros(len(weight)) if bias is None else bias
    both = torch.cat((weight, column[:, None]), dim=1).detach().double().cpu()
    return both.unflatten(0, (heads, -1))


class _Components:
    """The rotary components of a layer.

    Args:
        heads: of the layer.

    Attributes:
        strength: (D / 2, G) float64: sum over heads of |q'| |z|, as root mean squares.
    """

    def __init__(self, heads: Heads):
        self._groups = len(heads.key)
        self._query, self._key = (_complex(x) for x in (heads.query, heads.key))
        per_group = len(heads.query) // self._groups
        asking, asked = (m.mean.to(torch.complex128) for m in (heads.asking, heads.asked))
        energy = torch.einsum("hkd,de,hke->hk", self._query, asking, self._query.conj()).real
        grouped = energy.unflatten(0, (self._groups, per_group)).sum(dim=1)  # (G, D / 2)
        least = _LEAST_ENERGY * grouped.mean() + torch.finfo(torch.float64).tiny
        self._scale = (grouped + least).sqrt()
        scaled = (self._key * self._scale[..., None]).transpose(0, 1)  # (D / 2, G, d + 1)
        values, vectors = torch.linalg.eigh(scaled @ asked @ scaled.mH)
        values, self._basis = values.flip(-1).clamp_min(0), vectors.flip(-1)
        self._scaled = scaled
        of_head = torch.arange(self._groups).repeat_interleave(per_group)
        # (H, D / 2, G): what undoes the components
        self._undo = (self._basis.transpose(0, 1) / self._scale[..., None])[of_head]
        sizes = (energy.clamp_min(0).sqrt()[..., None] * self._undo.abs()).sum(dim=0)
        self.strength = sizes * values.sqrt()

    def kept(self, counts: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries and shared keys of the first counts[k] components, and the other keys.

        Args:
            counts: of each frequency.

        Returns:
            (H, R, d + 1), (R, d + 1), and of each key head what is left, (G, D, d + 1).
        """
        shared = self._basis.mH @ self._scaled  # (D / 2, G, d + 1)
        turned = self._undo.conj()[..., None] * self._query[:, :, None]  # (H, D / 2, G, d + 1)
        of_component = torch.arange(self._groups) < torch.tensor(counts)[:, None]
        rest = self._basis * ~of_component[:, None].expand_as(self._basis)
        rest = (rest @ shared).transpose(0, 1) / self._scale[..., None]
        return _real(turned[:, of_component]), _real(shared[of_component]), _real(rest)


def rotary_counts(
    layers: Sequence[Heads], frequencies: Tensor, width: int, distance: int
) -> tuple[int, ...]:
    """Return how many components of each frequency layers keep as rotary.

    Args:
        layers: of the model.
        frequencies: (D / 2,) angles a position.
        width: R, numbers of the rotary part.
        distance: positions between query and key at most, for which turns are weighed.
    """
    strength = torch.stack([_Components(heads).strength for heads in layers]).sum(dim=0)
    apart = torch.linspace(0, max(distance, 1), _DISTANCES, dtype=torch.float64)
    angles = frequencies.double()[:, None] * apart
    change = (2 * torch.sin(angles / 2).abs()).mean(dim=1)
    order = (strength * change[:, None]).flatten().argsort(descending=True, stable=True)
    frequency = order[: width // 2] // strength.size(1)
    return tuple(torch.bincount(frequency, minlength=len(strength)).tolist())


def fill_latent(latent: Latent, heads: Heads, counts: Sequence[int], scale: float) -> float:
    """Give an MLA without a norm of its latent the function of a layer, as near as its rank allows.

    Args:
        latent: whose qk_nope_head_dim and v_head_dim are D; changed.
        heads: of the layer.
        counts: of `rotary_counts`.
        scale: of the scores of the layer.

    Returns:
        The part of the weighed energy of keys and values that is lost, 0 to 1.
    """
    rotary_query, rotary_key, key = _Components(heads).kept(counts)
    value, groups = heads.value, len(heads.key)
    asking, asked = heads.asking.mean, heads.asked.mean
    covariance = torch.einsum("hid,de,hje->hij", heads.query, asking, heads.query)
    output = heads.output.unflatten(1, (len(heads.query), -1))  # (d, H, D)
    reading = torch.einsum("ohi,ohj->hij", output, output)
    parts, undo = [], []
    for own, metric in ((key, covariance), (value, reading)):
        weigh, back = _root(metric.unflatten(0, (groups, -1)).sum(dim=1))
        weighed = weigh @ own  # (G, D, d + 1)
        energy = torch.einsum("gid,de,gie->", weighed, asked, weighed).clamp_min(0).sqrt()
        size = energy if energy > 0 else torch.ones(())
        parts.append(weighed.flatten(0, 1) / size)
        undo.append(back * size)
    both = torch.cat(parts)  # (2 G D, d + 1)
    values, vectors = torch.linalg.eigh(both @ asked @ both.T)
    rank = latent.kv_lora_rank
    vectors = vectors.flip(-1)[:, :rank]
    values = values.flip(-1).clamp_min(0)
    lost = 1 - float(values[:rank].sum() / values.sum()) if values.sum() > 0 else 0.0
    # a latent number is 1 in the mean square over all of them
    unit = (values[:rank].sum() / rank).sqrt().clamp_min(1e-12)
    down = torch.zeros(rank, both.size(1), dtype=both.dtype)
    up = torch.zeros(len(both), rank, dtype=both.dtype)
    down[: vectors.size(1)], up[:, : vectors.size(1)] = vectors.T @ both / unit, vectors * unit
    key_up, value_up = (
        back @ part.unflatten(0, (groups, -1)) for back, part in zip(undo, up.chunk(2), strict=True)
    )
    per_group = len(heads.query) // groups
    heads_up = torch.cat((key_up, value_up), dim=1).repeat_interleave(per_group, dim=0)
    query = torch.cat((heads.query, rotary_query), dim=1) * (scale / latent.softmax_scale)
    with torch.no_grad():
        _fill(latent.wq, query.flatten(0, 1))
        _fill(latent.wkv_a, torch.cat((down, rotary_key)))
        latent.wkv_b.weight.copy_(heads_up.flatten(0, 1))
        latent.wo.weight.copy_(heads.output)
        if latent.wo.bias is not None:
            latent.wkv_b.bias.zero_()
            latent.wo.bias.copy_(
                torch.zeros_like(latent.wo.bias) if heads.output_bias is None else heads.output_bias
            )
    return lost


@torch.no_grad()
def merge_by_mean(temporal: TemporalLatent, latent: Latent) -> None:
    """Give an MTLA the weights of an MLA; a finished chunk is the plain mean of its latents.

    The weight 1 / s stands in one bias. What the hyper-network multiplies it with is drawn as
    usual, and its other half is 0, so that it learns from the first update on.

    Args:
        temporal: with `merge: sum`; changed.
        latent: of the same sizes.
    """
    temporal.load_state_dict(latent.state_dict(), strict=False)
    code, gate = temporal.hypernet_down.fc_c, temporal.hypernet_down.fc_p
    gate.weight.zero_()
    gate.bias.zero_()
    code.weight[0].zero_()
    code.bias[0] = 1.0
    if temporal.down_rate > 1:
        gate.bias[0] = torch.logit(torch.tensor(1 / temporal.down_rate, dtype=torch.float64))
    else:
        gate.bias[0] = 20.0  # of one member: 1 to the last bit


def _fill(linear: torch.nn.Linear, both: Tensor) -> None:
    """Write a projection (n, d + 1) whose last column is the bias."""
    linear.weight.copy_(both[:, :-1])
    if linear.bias is not None:
        linear.bias.copy_(both[:, -1])


def _complex(x: Tensor) -> Tensor:
    """(..., D, d + 1) whose rows are pairs of neighbours -> (..., D / 2, d + 1)."""
    even, odd = x.unflatten(-2, (-1, 2)).unbind(-2)
    return torch.complex(even, odd)


def _real(x: Tensor) -> Tensor:
    """(..., D / 2, d + 1) -> (..., D, d + 1)."""
    return torch.stack((x.real, x.imag), dim=-2).flatten(-3, -2)


def _root(metric: Tensor) -> tuple[Tensor, Tensor]:
    """Return the square roots of (G, D, D), and their inverses."""
    values, vectors = torch.linalg.eigh(metric)
    least = _LEAST_ENERGY * values.mean() + torch.finfo(torch.float64).tiny
    roots = (values.clamp_min(0) + least).sqrt()
    return (vectors * roots[:, None]) @ vectors.mT, (vectors / roots[:, None]) @ vectors.mT
