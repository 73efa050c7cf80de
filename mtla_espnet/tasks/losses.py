"""ESPnet's losses and statistics of a training, with fewer operations and no waits for the GPU.

Same values, by test. ESPnet takes targets apart utterance by utterance, which on a GPU is some
hundred kernels a batch and as many waits, and its smoothed loss fills three tensors as large as
the logits.
"""

import functools
import importlib
import math

import torch
import torch.nn.functional as F
from espnet2.asr.ctc import CTC as ESPnetCTC
from espnet2.legacy.nets.pytorch_backend.transformer import label_smoothing_loss
from espnet2.torch_utils import device_funcs
from torch import Tensor

from mtla_espnet.attention.ops.choose import has_kernels
from mtla_espnet.position import Lengths, accurate

# Fills a row of targets that is no text: the row of a batch that was filled up. It has no loss.
ABSENT = -2


def add_sos_eos(
    ys_pad: Tensor, sos: int, eos: int, ignore_id: int, repeat: int = 1
) -> tuple[Tensor, Tensor]:
    """Return what a decoder reads and what it is to say, as ESPnet's `add_sos_eos`.

    Args:
        ys_pad: (B, L) int64, right-padded by `ignore_id`; a row of `ABSENT` says nothing.
        sos: goes before a text, `repeat` times.
        eos: goes after a text, `repeat` times.
        ignore_id: pads what is to be said; what is read is padded by `eos`.
        repeat: as above.

    Returns:
        Two of (B, L + repeat). ESPnet's are as narrow as the longest text, if that is
        shorter than L.

    Example:
        >>> read, said = add_sos_eos(torch.tensor([[3, 4], [5, -1]]), 1, 2, -1)
        >>> read.tolist(), said.tolist()
        ([[1, 3, 4], [1, 5, 2]], [[3, 4, 2], [5, 2, -1]])
    """
    absent = ys_pad == ABSENT
    padding = absent | (ys_pad == ignore_id)
    read = F.pad(ys_pad.masked_fill(padding, eos), (repeat, 0), value=sos)
    said = F.pad(ys_pad.masked_fill(absent, ignore_id), (0, repeat), value=ignore_id)
    place = torch.arange(said.size(1), device=said.device)
    rest = place - (~padding).sum(dim=1, keepdim=True)  # from 0 on after the text
    ends = (rest >= 0) & (rest < repeat) & ~absent.any(dim=1, keepdim=True)
    return read, said.masked_fill(ends, eos)


def th_accuracy(pad_outputs: Tensor, pad_targets: Tensor, ignore_label: int) -> Tensor:
    """Return the share of targets whose logit is the largest, as ESPnet's `th_accuracy`.

    Args:
        pad_outputs: (B * L, V) logits.
        pad_targets: (B, L) int64.
        ignore_label: of targets that do not count.

    Returns:
        A scalar tensor, where ESPnet waits for a number.
    """
    found = pad_outputs.argmax(dim=1).view_as(pad_targets)
    counted = pad_targets != ignore_label
    return ((found == pad_targets) & counted).sum() / counted.sum()


class LabelSmoothingLoss(label_smoothing_loss.LabelSmoothingLoss):
    """ESPnet's loss: the divergence of smoothed targets from the predictions.

    PyTorch's cross entropy smooths by a share of all V classes, ESPnet by a share of the other
    V - 1: a smoothing of V / (V - 1) times as much is the same. The entropy of the targets, a
    constant, is added.
    """

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            x: (B, L, V) logits.
            target: (B, L) int64, padded by `padding_idx`.

        Returns:
            A scalar, float32 where the logits are of half precision: a sum over targets,
            divided by the rows that have any, or by their number with `normalize_length`.
        """
        if not isinstance(self.criterion, torch.nn.KLDivLoss):
            return super().forward(x, target)
        counted = target != self.padding_idx
        count = counted.sum()
        cross_entropy = F.cross_entropy(
            accurate(x).flatten(0, 1),
            target.flatten(),
            ignore_index=self.padding_idx,
            reduction="sum",
            label_smoothing=self.smoothing * self.size / (self.size - 1),
        )
        entropy = _log_power(self.confidence) + _log_power(self.smoothing)
        if self.smoothing:
            entropy -= self.smoothing * math.log(self.size - 1)
        whole = count if self.normalize_length else counted.any(dim=1).sum()
        return (cross_entropy + entropy * count) / whole


def _log_power(share: float) -> float:
    return share * math.log(share) if share else 0.0


class CTC(ESPnetCTC):
    """ESPnet's CTC, whose targets stay padded where PyTorch or our kernels compute the loss."""

    def forward(self, hs_pad: Tensor, hlens: Tensor, ys_pad: Tensor, ys_lens: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            hs_pad: (B, T, d).
            hlens: (B,) lengths of `hs_pad`; with `Lengths` a GPU computes by our kernels,
                which do not wait for the lengths as PyTorch does.
            ys_pad: (B, L) int64, right-padded; a row of `ABSENT` has no loss.
            ys_lens: (B,) lengths of `ys_pad`.

        Returns:
            A scalar, or with `reduce=False` (B,), divided by the rows that are texts.
        """
        if self.ctc_type != "builtin":
            return super().forward(hs_pad, hlens, ys_pad, ys_lens)
        logits = self.ctc_lo(F.dropout(hs_pad, p=self.dropout_rate))
        labels, present = ys_pad.clamp_min(0), ~(ys_pad == ABSENT).any(dim=1)
        log_probs = logits.log_softmax(dim=-1).float()
        if isinstance(hlens, Lengths) and has_kernels(logits.device):
            losses = _kernels().ctc_loss(log_probs, labels, hlens, ys_lens)
            if self.ctc_loss.zero_infinity:
                losses = losses.masked_fill(losses == math.inf, 0.0)
        else:
            losses = self.ctc_loss(log_probs.transpose(0, 1), labels, hlens, ys_lens)
        losses = losses.masked_fill(~present, 0.0) / present.sum()
        loss = losses.sum() if self.reduce else losses
        return loss.to(device=hs_pad.device, dtype=hs_pad.dtype)


@functools.cache
def _kernels():
    """Return the module of CTC's kernels, which needs Triton."""
    return importlib.import_module("mtla_espnet.tasks.ctc_triton")


def force_gatherable(data, device: torch.device):
    """Make tensors of one axis of a model's results, as ESPnet's `force_gatherable`.

    Args:
        data: numbers, tensors and None, in tuples, lists and dicts.
        device: where they are to lie.

    Returns:
        The same form. Numbers are written by the device, where ESPnet copies them and waits.
    """
    if isinstance(data, dict):
        return {name: force_gatherable(value, device) for name, value in data.items()}
    if type(data) in (tuple, list):
        return type(data)(force_gatherable(value, device) for value in data)
    if type(data) in (int, float):
        dtype = torch.int64 if type(data) is int else torch.float32
        return torch.full((1,), data, dtype=dtype, device=device)
    return device_funcs.force_gatherable(data, device)
