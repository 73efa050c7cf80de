"""The precision in which a model decodes, and its encoder with it."""

import contextlib
import inspect
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mtla_espnet.attention.ops import choose
from mtla_espnet.inference.decodable import check_choice

DTYPES = ("float32", "bfloat16", "float16", "float64")
AUTO = "auto"
_HALF = (torch.bfloat16, torch.float16)
# cuDNN makes a plan for each shape, which takes up to seconds.
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def chosen_dtype(dtype: str, device: torch.device) -> str:
    """Return the precision that an option asks for on a device.

    Args:
        dtype: one of `DTYPES`, or `auto`: bfloat16 on a GPU that has our kernels, else float32.
        device: that decodes.

    Raises:
        UserError: there is no such precision.

    Example:
        >>> chosen_dtype("auto", torch.device("cpu"))
        'float32'
    """
    check_choice("dtype", dtype, (AUTO, *DTYPES))
    if dtype != AUTO:
        return dtype
    return "bfloat16" if choose.has_kernels(device) else "float32"


class EncoderPrecision:
    """Runs an encoder in half precision where a GPU decodes in it.

    Its products and PyTorch's attention (`use_sdpa` of ESPnet's encoders) are then in the
    decoder's precision, by autocast; weights, norms and features stay in float32. On a CPU, and in
    float32, the encoder is as it was trained.

    Args:
        model: ESPnet's, in evaluation mode, with an `encoder` or without.
        device: that it runs on.
        dtype: of the decoder, one of `DTYPES`.
    """

    def __init__(self, model: nn.Module, device: torch.device, dtype: str):
        self._device, self._dtype = device, getattr(torch, dtype)
        self._is_half = device.type == "cuda" and self._dtype in _HALF
        encoder = getattr(model, "encoder", None)
        if self._is_half and encoder is not None:
            use_sdpa(encoder)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Enter the precision for what is computed in the context."""
        if not self._is_half:
            yield
            return
        with torch.autocast(self._device.type, self._dtype), sdpa_kernel(_KERNELS):
            yield


def use_sdpa(encoder: nn.Module) -> None:
    """Let an encoder of ESPnet compute its attention by PyTorch's kernels, the same function.

    An encoder without the option `use_sdpa` stays as it is.

    Args:
        encoder: as ESPnet's task made it.
    """
    # Here: ESPnet takes seconds to import.
    from espnet2.legacy.nets.pytorch_backend.transformer.attention import MultiHeadedAttention

    for kind in type(encoder).__mro__:
        if "use_sdpa" in inspect.signature(kind.__init__).parameters:
            break
    else:
        return
    for module in encoder.modules():
        if isinstance(module, MultiHeadedAttention) and not module.use_flash_attn:
            module.use_sdpa = True
