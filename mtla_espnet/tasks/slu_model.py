"""`model: decoder_only_slu`: the intent weighed in the loss, and CTC without it."""

import inspect
import math

import torch
from espnet2.slu.espnet_model import ESPnetSLUModel

from mtla_espnet.tasks.losses import LabelSmoothingLoss


class IntentWeightedLoss(LabelSmoothingLoss):
    """ESPnet's label smoothing loss with another weight on the first target.

    Args:
        weight: of the first target of an utterance; the others have 1. What the sum is divided
            by (utterances, or targets with `normalize_length`) does not count weights.
        options: those of ESPnet's loss.
    """

    def __init__(self, weight: float, **options):
        super().__init__(**options)
        self.weight = weight

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Args:
            x: (B, L, V) logits.
            target: (B, L) int64, padded by `padding_idx`.

        Returns:
            A scalar.
        """
        loss = super().forward(x, target)
        if self.weight == 1.0:
            return loss
        first = target[:, :1].contiguous()
        share = 1.0
        if self.normalize_length:
            share = (first != self.padding_idx).sum() / (target != self.padding_idx).sum()
        # the first target is in `loss` once already
        return loss + (self.weight - 1.0) * share * super().forward(x[:, :1].contiguous(), first)


class DecoderOnlySLUModel(ESPnetSLUModel):
    """ESPnet's SLU model for texts of an intent (one token) and the words that were said.

    What is spoken is the words alone, so CTC may leave the intent out; and the intent, one token
    of many, may weigh more. The paper (arXiv 2505.13544) has `ctc_skip_tokens: 1` and
    `intent_weight: 5.0`.

    Args:
        intent_weight: of the intent in the attention loss, above 0; a word has 1.
        ctc_skip_tokens: tokens that begin a text and that CTC does not know.
        options: those of `ESPnetSLUModel`.

    Raises:
        ValueError: an option has a value that it cannot have.
    """

    def __init__(self, *args, intent_weight: float = 1.0, ctc_skip_tokens: int = 0, **options):
        is_number = isinstance(intent_weight, int | float)
        if not is_number or not 0.0 < intent_weight < math.inf:
            raise ValueError(f"intent_weight must be a number above 0, not {intent_weight}")
        if not isinstance(ctc_skip_tokens, int) or ctc_skip_tokens < 0:
            raise ValueError(
                f"ctc_skip_tokens must be a whole number from 0 on, not {ctc_skip_tokens}"
            )
        super().__init__(*args, **options)
        self.intent_weight = float(intent_weight)
        self.ctc_skip_tokens = ctc_skip_tokens
        plain = getattr(self, "criterion_att", None)  # a transducer has none
        if plain is not None:
            self.criterion_att = IntentWeightedLoss(
                self.intent_weight,
                size=plain.size,
                padding_idx=plain.padding_idx,
                smoothing=plain.smoothing,
                normalize_length=plain.normalize_length,
            )

    def _calc_ctc_loss(
        self,
        encoder_out: torch.Tensor,
        encoder_out_lens: torch.Tensor,
        ys_pad: torch.Tensor,
        ys_pad_lens: torch.Tensor,
    ):
        """Compute ESPnet's CTC loss on the text without its first tokens."""
        words = ys_pad[:, self.ctc_skip_tokens :]
        if not words.size(1):  # a column says which rows are `ABSENT`
            words = ys_pad[:, :1].clamp_max(self.ignore_id)
        lengths = (ys_pad_lens - self.ctc_skip_tokens).clamp_min(0)
        return super()._calc_ctc_loss(encoder_out, encoder_out_lens, words, lengths)


def _signature() -> inspect.Signature:
    """Return all options: ESPnet reads those of a YAML file, and their defaults, from it."""
    own = inspect.signature(DecoderOnlySLUModel.__init__).parameters
    parameters = dict(inspect.signature(ESPnetSLUModel).parameters)
    parameters |= {name: own[name] for name in ("intent_weight", "ctc_skip_tokens")}
    return inspect.Signature(list(parameters.values()))


DecoderOnlySLUModel.__signature__ = _signature()
