"""True positions, rotary embedding and the sinusoidal encoding of chunks.

A position is 0-based and counts one utterance's own `[prefix ; text]`; -1 marks
padding. Rotary angles and chunks both come from it, so nothing depends on what
else is in the batch.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

THETA = 10000.0
# A table of positions is made for so many at first, then doubled.
_FIRST_POSITIONS = 256


def positions(lengths: Tensor, size: int) -> Tensor:
    """Return the positions of right-padded rows.

    Args:
        lengths: (B,) int64, positions held by each row.
        size: T, the padded length.

    Returns:
        (B, T) int64: 0 ... length - 1, then -1.

    Example:
        >>> positions(torch.tensor([3, 1]), 3).tolist()
        [[0, 1, 2], [0, -1, -1]]
    """
    index = torch.arange(size, device=lengths.device)
    return torch.where(index < lengths[:, None], index, -1)


def next_size(size: int, steps: int) -> int:
    """Return the next larger one of few sizes, so that batches share graphs and buffers.

    Args:
        size: at least 1.
        steps: at most so many sizes between a power of 2 and the next; a power of 2.

    Example:
        >>> [next_size(size, 4) for size in (1, 7, 9, 11, 13, 100)]
        [1, 7, 10, 12, 14, 112]
    """
    unit = max(1, (1 << (size - 1).bit_length()) // (2 * steps))
    return -(-size // unit) * unit


class Lengths(Tensor):
    """Lengths of a padded batch whose bounds the host knows: to ask for them waits for no GPU.

    `lengths.max()` is an int, as ESPnet's models take it for slices and checks. What is
    computed from lengths is a plain tensor.

    Attributes:
        bounds: the least and the most that a length may be; the most is the padded size.
    """

    bounds: tuple[int, int]

    @classmethod
    def of(cls, lengths: Tensor, most: int, least: int = 1) -> "Lengths":
        """Return `lengths` (B,) as such.

        Example:
            >>> lengths = Lengths.of(torch.tensor([3, 1]), 4)
            >>> lengths.max(), lengths + 1
            (4, tensor([4, 2]))
        """
        known = lengths.as_subclass(cls)
        known.bounds = least, most
        return known

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        """Answer `lengths.max()`; all else is as with a plain tensor."""
        if function is Tensor.max and len(args) == 1 and not kwargs:
            return args[0].bounds[1]
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))


def extremes(lengths: Tensor) -> tuple[int, int]:
    """Return the least and the most of lengths (B,): the bounds that the host knows, or exact.

    Example:
        >>> extremes(torch.tensor([3, 1])), extremes(Lengths.of(torch.tensor([3, 1]), 4))
        ((1, 3), (1, 4))
    """
    if isinstance(lengths, Lengths):
        return lengths.bounds
    least, most = (int(value) for value in torch.aminmax(lengths))
    return least, most


def unpadded_first(padding: Tensor) -> tuple[Tensor, Tensor]:
    """Return the order of columns in which each row's unpadded ones come first.

    Args:
        padding: (B, T) bool, true at padding, anywhere.

    Returns:
        (B, T) int64: the column of each position, then those of padding; and the `positions`.

    Example:
        >>> unpadded_first(torch.tensor([[True, False, False]]))
        (tensor([[1, 2, 0]]), tensor([[ 0,  1, -1]]))
    """
    column = padding.to(torch.int8).argsort(dim=1, stable=True)
    return column, positions((~padding).sum(dim=1), padding.size(1))


def accurate(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 if it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def rotation(
    position: Tensor,
    width: int,
    dtype: torch.dtype = torch.float32,
    frequencies: tuple[float, ...] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines by which `rotate` turns pairs.

    Args:
        position: (B, T) or (1, T), int64 or float.
        width: D, even.
        dtype: of the angles and the result.
        frequencies: D / 2 angles, by which pairs turn a position; None: 10000^(-2k/D).

    Returns:
        Two of (B or 1, T, D / 2).
    """
    half = width // 2
    if frequencies is None:
        frequency = THETA ** (torch.arange(half, device=position.device, dtype=dtype) / -half)
    else:
        # each filled on the device: a CUDA graph cannot copy from the host
        where = {"device": position.device, "dtype": dtype}
        frequency = torch.stack([torch.full((), each, **where) for each in frequencies])
    angle = position.to(dtype)[..., None] * frequency
    return angle.cos(), angle.sin()


class Positions:
    """Positions of a batch's rows, with what all layers need of them, computed once.

    The very same object for queries and keys says that all positions ask.

    Args:
        index: (B, T) int64, true positions: unpadded ones first if they are those of
            keys, then -1. Not changed afterwards.
        rotary: (B or 1, T), numbers for the rotary angles where these are not the true
            positions.
    """

    def __init__(self, index: Tensor, rotary: Tensor | None = None):
        self.index = index
        self._rotary = index if rotary is None else rotary
        self._kept: dict[Hashable, object] = {}

    def once(self, name: Hashable, compute: Callable[[], object]):
        """Return what `compute` gives, of the first call with this name.

        In torch.compile of every call: its own search for equal parts does the same.
        """
        if torch.compiler.is_compiling():
            return compute()
        if name not in self._kept:
            self._kept[name] = compute()
        return self._kept[name]

    def rotation(
        self,
        width: int,
        dtype: torch.dtype = torch.float32,
        frequencies: tuple[float, ...] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return `rotation` of the rotary numbers."""
        form = width, dtype, frequencies
        return self.once(("rotation", *form), lambda: rotation(self._rotary, *form))


class AngleTable:
    """Rotary angles of positions as complex numbers: made once, for more as they are asked for.

    Args:
        width: D of `rotation`.
        dtype: of what is turned; angles are in float32 at least.
        device: of the table.
        frequencies: of `rotation`.
    """

    def __init__(
        self,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        frequencies: tuple[float, ...] | None = None,
    ):
        self._form = width, torch.promote_types(dtype, torch.float32), frequencies
        self._device = device
        self._size = 0

    def at(self, position: Tensor, size: int) -> Tensor:
        """Return the angles of positions (N,) below `size`, (N, D / 2)."""
        if size > self._size:
            self._size = max(_FIRST_POSITIONS, 2 * size)
            index = torch.arange(self._size, device=self._device)[None]
            self._table = complex_rotation(index, *self._form)[0]
        return self._table.index_select(0, position)


def complex_rotation(
    position: Tensor,
    width: int,
    dtype: torch.dtype,
    frequencies: tuple[float, ...] | None = None,
) -> Tensor:
    """Return `rotation` as complex numbers, (B or 1, T, D / 2)."""
    tables = rotation(position, width, dtype, frequencies)
    return torch.view_as_complex(torch.stack(tables, dim=-1))


def rotate(
    x: Tensor, position: Positions | Tensor, frequencies: tuple[float, ...] | None = None
) -> Tensor:
    """Apply the rotary position embedding to adjacent pairs, in float32 inside.

    Pair k of a vector of width D turns by position * 10000^(-2k/D), or * frequencies[k].
    Source: Su et al., arXiv 2104.09864, with the pairing of the original.

    Args:
        x: (B, T, ..., D), D even; any number of axes (heads) between T and D.
        position: of (B, T), or a tensor (B or 1, T), int64 or float. Padding (-1)
            turns like any other number: its result is never used.
        frequencies: D / 2 angles a position; None: those above.

    Returns:
        Same shape and dtype as `x`.
    """
    half = x.size(-1) // 2
    even, odd = accurate(x).unflatten(-1, (half, 2)).unbind(-1)
    if isinstance(position, Positions):
        tables = position.rotation(2 * half, even.dtype, frequencies)
    else:
        tables = rotation(position, 2 * half, even.dtype, frequencies)
    shape = *tables[0].shape[:2], *(1,) * (x.dim() - 3), half
    cosine, sine = (table.view(shape) for table in tables)
    turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def chunk_encoding(chunk: Tensor, size: int) -> Tensor:
    """Return the sinusoidal encoding PE(j) of chunk numbers.

    PE(j)[2k] = sin(j * 10000^(-2k/size)), PE(j)[2k+1] = cos of the same.
    Source: arXiv 2505.13544, hyper-network input.

    Args:
        chunk: int64, any shape.
        size: width of the encoding, even.

    Returns:
        (*chunk.shape, size) float32.
    """
    frequency = THETA ** (
        torch.arange(0, size, 2, device=chunk.device, dtype=torch.float32) / -size
    )
    angle = chunk.to(torch.float32)[..., None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)
