"""Training of a converted model with the logits of the model that it was made of."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Trainer


class DistillationTrainer(Trainer):
    """Trainer whose loss is (1 - share) cross entropy + share * KL(teacher || model).

    The divergence is that of next tokens where there are labels, at a temperature t, times t^2.
    Evaluation tells the cross entropy alone. Source: Hinton et al., arXiv 1503.02531.

    Args:
        arguments: of `Trainer`.
        teacher: the model before it was converted, with the same tokens; not trained.
        share: of the teacher, 0 to 1.
        temperature: t.
        named: arguments of `Trainer`.
    """

    def __init__(
        self,
        *arguments,
        teacher: nn.Module,
        share: float = 0.5,
        temperature: float = 1.0,
        **named,
    ):
        super().__init__(*arguments, **named)
        self.teacher = teacher.to(self.args.device).eval().requires_grad_(False)
        self.share, self.temperature = share, temperature

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss of a batch, and the model's outputs if they are asked for.

        Args:
            model: that is trained.
            inputs: `input_ids`, `labels` and what else the model takes.
            return_outputs: return both.
            num_items_in_batch: labels of all batches of the update.
        """
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            asked = {name: value for name, value in inputs.items() if name != "labels"}
            with torch.no_grad():
                wanted = self.teacher(**asked, use_cache=False).logits
            apart = divergence(outputs.logits, wanted, inputs["labels"], self.temperature)
            count = (inputs["labels"][:, 1:] != -100).sum()
            if num_items_in_batch is not None:
                count = num_items_in_batch
            loss = (1 - self.share) * loss + self.share * apart / count
        return (loss, outputs) if return_outputs else loss


def divergence(logits: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the sum of t^2 KL(teacher || model) over next tokens that have a label.

    Args:
        logits: (B, L, V) of the model.
        teacher: (B, L, V).
        labels: (B, L), -100 where there is none; not shifted.
        temperature: t.
    """
    kept = labels[:, 1:] != -100
    own, wanted = (
        (x[:, :-1][kept].float() / temperature).log_softmax(dim=-1) for x in (logits, teacher)
    )
    return temperature**2 * F.kl_div(own, wanted, log_target=True, reduction="sum")
