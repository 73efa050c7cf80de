"""Which form of an operator runs on a tensor: the only place that asks for CUDA and Triton."""

from importlib.util import find_spec

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)
_HAS_TRITON = find_spec("triton") is not None


def _constant(function):
    """Mark a function as constant to torch.compile, which would leave its graph for it.

    What it returns at compilation holds for good. The mark is that of
    `torch.compiler.assume_constant_result`, which loads torch._dynamo to set it: as long again
    as PyTorch itself, for callers that may compile nothing.
    """
    function._dynamo_marked_constant = True
    return function


@_constant
def switches() -> tuple[bool, bool, bool]:
    """Return whether `torch.nn.attention.sdpa_kernel` leaves these switched on.

    They are flash, cuDNN and the memory-efficient kernel.
    """
    switches = torch.backends.cuda
    return (
        switches.flash_sdp_enabled(),
        switches.cudnn_sdp_enabled(),
        switches.mem_efficient_sdp_enabled(),
    )


@_constant
def _generation(device: torch.device) -> int:
    """Return the major number of the compute capability: 8 is Ampere, 9 Hopper."""
    return torch.cuda.get_device_capability(device)[0]


def why_no_kernels(device: torch.device, dtype: torch.dtype) -> str:
    """Return why our Triton kernels do not run on a device; empty if they do."""
    if device.type != "cuda":
        return f"they need CUDA, and the device is {device.type}"
    if not _HAS_TRITON:
        return "Triton is not installed"
    if _generation(device) < 8:
        return "the GPU is older than Ampere"
    return "they know no float64" if dtype == torch.float64 else ""


def has_kernels(device: torch.device) -> bool:
    """Return whether Triton kernels for whatever dtype run on a device."""
    return not why_no_kernels(device, torch.float32)


def runs_triton(x: Tensor) -> bool:
    """Return whether our Triton kernels take a tensor: up to float32, on Ampere or newer."""
    return not why_no_kernels(x.device, x.dtype)


def chunked_kernel(query: Tensor, dropout: float, down_rate: int) -> str | None:
    """Return which kernel serves `chunked.attend`: 'cpu', 'flash', 'cudnn', 'efficient', None.

    On a CPU PyTorch's flash kernel takes float32, bfloat16 and float16, without dropout of
    the weights. On CUDA flash and cuDNN take half precision alone, and
    `torch.nn.attention.sdpa_kernel` chooses between them as for PyTorch's own attention: by
    itself flash, since cuDNN, though faster, spends 0.15 s on every new shape, and ragged
    batches are all of a new shape. The memory-efficient kernel takes what they do not:
    float32 and dropout. None is left to PyTorch's attention, as what has no chunks to merge is
    where our Triton kernels do not serve.

    Args:
        query: (B, T, H, D).
        dropout: of the weights.
        down_rate: s.
    """
    if query.dtype == torch.float64:
        return None
    merges = down_rate > 1
    if query.device.type == "cpu":
        return None if dropout > 0 or not merges else "cpu"
    if not query.is_cuda:
        return None
    flash, cudnn, efficient = switches()
    if dropout > 0 or query.dtype not in _HALF or not runs_triton(query):
        return "efficient" if efficient and merges else None
    if flash:
        return "flash"
    enough = query.size(1) > 2 * down_rate  # cuDNN refuses one query with one key
    return "cudnn" if cudnn and _generation(query.device) >= 9 and enough else None


def has_chunk_kernels(kernel: str) -> bool:
    """Return whether our Triton kernels stand around a kernel of `chunked_kernel`."""
    return kernel in ("flash", "cudnn")


def chunk_operations(kernel: str):
    """Return the module whose row operations stand around a kernel of `chunked_kernel`."""
    if has_chunk_kernels(kernel):
        # here: Triton need not be installed where there is no GPU
        from mtla_espnet.attention.ops import chunked_triton as operations
    else:
        from mtla_espnet.attention.ops import chunked_rows as operations
    return operations


def no_decode_kernels(attention) -> str:
    """Return why the kernels of a decoding step do not take a kind; empty if they do.

    Args:
        attention: a `SelfAttention`.
    """
    form, layers = attention.slot, attention.layers
    if form.window:
        return "they know no window of single positions"
    if layers.norm is None and layers.up is None and not form.shared_width:
        whole = form.value_width == form.key_width == form.rotary_width
        return "" if whole else "key, value and rotary part have different widths"
    if None in (layers.norm, layers.up) or form.value_width or not form.shared_width:
        return "a slot is neither keys and values, nor latents and a rotary key"
    if form.groups > 1 and attention.gates is not None:
        return "latents of several groups are weighted"
    return ""


def decode_operations(device: torch.device, attention):
    """Return the module whose operations of a decoding step serve a device and a kind.

    Args:
        device: that decoding runs on.
        attention: a `SelfAttention`.
    """
    if has_kernels(device) and not no_decode_kernels(attention):
        # here: Triton need not be installed where there is no GPU
        from mtla_espnet.attention.ops import decode_triton as operations
    else:
        from mtla_espnet.attention.ops import decode as operations
    return operations
