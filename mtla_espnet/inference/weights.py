"""Parameters of a trained model: read as tensors alone, checked, and the measure of the model.

A configuration may ask for a model of any size. Its parameters are there before it is built,
so what is allocated meanwhile is bounded by their number.
"""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtla_espnet.files import UserError, check_file
from mtla_espnet.trust import nothing_runs

# While a model is built: parts that are thrown away, tables of positions and filters.
_MOST_TIMES = 8
_SPARE_ELEMENTS = 1 << 25
_SPARE_TENSORS = 2000


def read_parameters(path: Path) -> dict[str, Tensor]:
    """Read the parameters of a model, on the CPU.

    Args:
        path: a state dict, saved by `torch.save`.

    Raises:
        UserError: it is missing or cut off, holds anything but dense tensors of numbers, or
            unpacks to more than its size.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no such model file")
    check_file(path)
    _check_size(path)
    try:
        with nothing_runs(path):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception:  # whatever the unpickler stumbles over first
        raise UserError(
            f"{path}: not a whole model file of PyTorch; train or copy it again"
        ) from None
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise UserError(f"{path}: holds no model parameters alone (a checkpoint of training?)")
    for name, value in state.items():
        problem = _problem(value)
        if problem:
            raise UserError(f"{path}: {name!r} is {problem}, not a dense tensor of numbers")
    return state


def _check_size(path: Path) -> None:
    """Refuse compressed tensors: PyTorch stores them as they are."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return  # PyTorch refuses it
    if unpacked > 2 * Path(path).stat().st_size + (1 << 20):
        raise UserError(f"{path}: unpacks to {unpacked >> 20} MiB: not written by torch.save")


def _problem(value: Tensor) -> str | None:
    if value.is_meta:
        return "without values (on the device meta)"
    if value.layout is not torch.strided:
        return "sparse"
    if value.is_quantized:
        return "quantized"
    if value.is_complex():
        return "complex"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "larger than what is stored of it"
    return None


def check_parameters(
    path: Path,
    source: Path,
    found: Mapping[str, Tensor],
    model: torch.nn.Module,
    tokens: Sequence[str],
) -> None:
    """Check that parameters are those of a model.

    Args:
        path: where they are from, for messages.
        source: the configuration of the model, for messages.
        found: name -> parameter, of `read_parameters`.
        model: that they are for.
        tokens: of the configuration.

    Raises:
        UserError: one is missing, unknown, or of another shape or type; or one is not finite.
    """
    expected = model.state_dict()
    for name, value in expected.items():
        if name not in found:
            raise UserError(f"{path}: not a model of {source}: it has no {name!r}")
        _check_shape(path, source, name, found[name], value, len(tokens))
        if value.is_floating_point() and not found[name].is_floating_point():
            kind = str(found[name].dtype).removeprefix("torch.")
            raise UserError(f"{path}: {name!r} holds numbers of type {kind}, not fractions")
    unknown = found.keys() - expected.keys()
    if unknown:
        raise UserError(f"{path}: not a model of {source}, which has no {min(unknown)!r}")
    for name, _ in model.named_parameters():
        if not _is_finite(found[name]):
            raise UserError(
                f"{path}: {name!r} is not finite (NaN or infinite): the training broke off or "
                "the file is damaged; take another model"
            )


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return True
    # The sum shows NaN and infinity in one pass; it may itself be too large.
    return bool(value.sum(dtype=torch.float32).isfinite() or value.isfinite().all())


def _check_shape(path, source, name, found, expected, tokens: int) -> None:
    if found.shape == expected.shape:
        return
    if expected.dim() and expected.size(0) == tokens and found.shape[1:] == expected.shape[1:]:
        raise UserError(
            f"{path}: was trained with {found.size(0)} tokens, but {source} lists {tokens}"
        )
    raise UserError(
        f"{path}: not a model of {source}: {name!r} has the shape "
        f"{tuple(found.shape)} instead of {tuple(expected.shape)}"
    )


@contextlib.contextmanager
def no_larger_than(parameters: Mapping[str, Tensor], path: Path, source: Path) -> Iterator[None]:
    """Bound what is allocated inside by the size of the parameters that are there.

    Args:
        parameters: of the model that is built inside.
        path: where they are from, for messages.
        source: the configuration that the model is built by, for messages.

    Raises:
        UserError: the configuration asks for more.
    """
    count = sum(value.numel() for value in parameters.values())
    tensors = _MOST_TIMES * len(parameters) + _SPARE_TENSORS
    with _Bound(_MOST_TIMES * count + _SPARE_ELEMENTS, tensors) as bound:
        try:
            yield
        except Exception:
            if not bound.is_exceeded:
                raise
            raise UserError(
                f"{source}: asks for a model far larger than the {count} numbers of {path}: a "
                "size in it (a width, a number of layers) is wrong"
            ) from None


class _Bound(TorchDispatchMode):
    """Counts the tensors that are made, and their elements, before they are.

    Args:
        elements: at most, of all.
        tensors: at most.
    """

    _MAKERS = frozenset(
        ("empty", "empty_strided", "zeros", "ones", "full", "rand", "randn", "randint", "randperm")
        + ("eye", "arange", "linspace", "logspace", "new_empty", "new_zeros", "new_ones")
        + ("new_full", "repeat", "tril_indices", "triu_indices")
    )

    def __init__(self, elements: int, tensors: int):
        super().__init__()
        self._left, self._left_tensors = elements, tensors
        self.is_exceeded = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        is_meta = str(kwargs.get("device")) == "meta"
        if func.overloadpacket.__name__ in self._MAKERS and not is_meta:
            self._left -= _elements(func, args, kwargs)
            self._left_tensors -= 1
            if min(self._left, self._left_tensors) < 0:
                self.is_exceeded = True
                raise MemoryError("a configuration asks for too large a model")
        return func(*args, **kwargs)


def _elements(func, args, kwargs) -> int:
    name = func.overloadpacket.__name__
    if name in ("empty", "zeros", "ones", "full", "rand", "randn", "empty_strided"):
        return _product(args[0])
    if name.startswith("new_"):
        return _product(args[1])
    if name == "repeat":
        return args[0].numel() * _product(args[1])
    kept = {key: value for key, value in kwargs.items() if key not in ("generator", "pin_memory")}
    return func(*args, **{**kept, "device": "meta"}).numel()


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= int(size)
    return total
