"""`--train_graphs N`: forward and backward of a training's batches as CUDA graphs.

An update of a model of 80 M parameters launches some 4,000 kernels, which take a GPU half as long
as the host needs to launch them. A CUDA graph launches all of them by one call, but only at the
addresses and shapes for which it was captured. So

- a batch is filled up to a shape: longer sequences, and more rows, which repeat the batch's own
  inputs and have no targets (`losses.ABSENT`), so that loss and gradients stay what they were;
- a batch takes the smallest kept graph that it fills by `_FILLED` in each sequence. Where none
  is kept, the first batch of a shape runs as ever, padded, which also compiles its kernels; the
  second captures. Once N graphs are kept, other shapes run as ever;
- forward and backward are two graphs. ESPnet's trainer calls the one by `model(...)` and the
  other by `loss.backward()`, so that its scaler, accumulation, clipping and optimiser are its own;
- front end, SpecAugment and normalisation run before the graph, without padding to shapes;
- gradients are added up in tensors that all graphs share, and a parameter's `grad` is that tensor;
- all graphs share one memory pool, in which each begins anew: memory is that of the largest;
- lengths are `position.Lengths`, whose bounds the host knows.

What a graph cannot hold is refused at the first capture, by one line: waiting for the GPU, and
random numbers of the host (layer drop, stochastic depth), which would be the same ever after.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.mt.espnet_model import ESPnetMTModel
from espnet2.st.espnet_model import ESPnetSTModel
from torch import Tensor

from mtla_espnet.files import UserError
from mtla_espnet.position import Lengths, next_size
from mtla_espnet.tasks.capture import CudaCapture, Work
from mtla_espnet.tasks.losses import ABSENT

# A sequence of a batch, rows x length, is at least so much of the graph's that takes it.
_FILLED = 0.8
# Sizes of new shapes: at most so many between a power of 2 and the next.
_SIZES = 16
_FRONT_END = ("frontend", "specaug", "normalize")
_PADDING = -1  # of ESPnet's batches of tokens

Shape = dict[str, tuple[int, int]]  # name of a sequence -> rows, padded length


def padded_size(size: int) -> int:
    """Return a size of few: at most `_SIZES` between a power of 2 and the next.

    Example:
        >>> [padded_size(size) for size in (7, 32, 33, 1000)]
        [7, 32, 34, 1024]
    """
    return next_size(size, _SIZES)


def check_supported(model: torch.nn.Module, ngpu: int, distributed: bool) -> None:
    """Check that a training can have graphs.

    Raises:
        UserError: it has no GPU or several, is of another model, or its front end learns.
    """
    if ngpu != 1 or distributed:
        raise UserError("--train_graphs: graphs are for one GPU: train with --ngpu 1 or without")
    if not isinstance(model, ESPnetASRModel | ESPnetSTModel | ESPnetMTModel):
        raise UserError(f"--train_graphs: {type(model).__name__} has none: train without")
    front_end = None if isinstance(model, ESPnetMTModel) else model.frontend
    if front_end is not None and any(p.requires_grad for p in front_end.parameters()):
        raise UserError("--train_graphs: the front end learns too: freeze it or train without")


class GraphedModel(torch.nn.Module):
    """A model of ESPnet whose forward and backward are CUDA graphs, in training.

    Args:
        model: as `check_supported` wants it.
        most: graphs that are kept.
        capture: makes of work what replays it; None: `CudaCapture`.
    """

    def __init__(
        self, model: torch.nn.Module, most: int, capture: Callable[[Work], Work] | None = None
    ):
        super().__init__()
        self.model = model
        self._most, self._capture = most, capture
        self._seen: Counter = Counter()
        self._updates: list[_Update] = []
        self._memory: dict[str, Tensor] = {}  # of the inputs

    @property
    def shapes(self) -> list[Shape]:
        """Shapes of the graphs that are kept."""
        return [update.shape for update in self._updates]

    def forward(self, **batch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return loss, statistics and weight, as ESPnet's models do.

        Args:
            batch: name -> (B, L, ...) and name_lengths -> (B,), padded to the longest.

        Raises:
            UserError: the model cannot be captured.
        """
        if not (self.training and torch.is_grad_enabled()):
            return self.model(**batch)
        batch = self._features(batch)
        own = {
            name: tuple(value.shape[:2])
            for name, value in batch.items()
            if f"{name}_lengths" in batch
        }
        rows = next(iter(own.values()))[0]
        fitting = [update for update in self._updates if _fills(own, update.shape)]
        if fitting:
            update = min(fitting, key=lambda each: _area(each.shape))
            self._fill(batch, update.inputs)
        else:
            shape = {name: tuple(map(padded_size, size)) for name, size in own.items()}
            inputs = self._fill(batch, self._inputs(batch, shape))
            self._seen[tuple(shape.items())] += 1
            if self._seen[tuple(shape.items())] == 1 or len(self._updates) >= self._most:
                return *_run(self.model, inputs), torch.tensor([rows])
            update = self._captured(shape, inputs)
        statistics = update.run_forward()
        return _Loss.apply(update.anchor, update), statistics, torch.tensor([rows])

    def _features(self, batch: dict) -> dict[str, Tensor]:
        """Replace speech by what the encoder reads."""
        batch = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        if "speech" not in batch:
            return batch
        model, speech = self.model, batch["speech"]
        lengths = Lengths.of(batch["speech_lengths"], speech.size(1))
        half = {"enabled": getattr(model, "autocast_frontend", False)}
        half["dtype"] = torch.get_autocast_dtype("cuda")
        with torch.no_grad(), torch.autocast("cuda", **half):
            features, lengths = model._extract_feats(speech, lengths)
            for part in (model.specaug, model.normalize):
                if part is not None:
                    features, lengths = part(features, lengths)
        return batch | {"speech": features, "speech_lengths": lengths}

    def _inputs(self, batch: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
        """Return tensors for a batch of a shape, in memory that shapes share where it is enough."""
        inputs = {}
        for name, size in shape.items():
            for each, form in ((name, size), (f"{name}_lengths", size[:1])):
                form = (*form, *batch[each].shape[len(form) :])
                numbers = math.prod(form)
                if each not in self._memory or len(self._memory[each]) < numbers:
                    self._memory[each] = batch[each].new_empty(numbers * 5 // 4)
                inputs[each] = self._memory[each][:numbers].view(form)
        return inputs

    def _fill(self, batch: dict[str, Tensor], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Write a batch into tensors of a shape; return them."""
        source = "speech" if "speech" in inputs else "src_text"
        for name in inputs:
            if name.endswith("_lengths"):
                continue
            value, lengths = batch[name], batch[f"{name}_lengths"]
            target, target_lengths = inputs[name], inputs[f"{name}_lengths"]
            rows, size = value.shape[:2]
            target.fill_(0.0 if target.is_floating_point() else _PADDING)
            target[:rows, :size] = value
            target_lengths[:rows] = lengths
            more = len(target) - rows
            if name == source:
                target[rows:, :size] = value[:more]
                target_lengths[rows:] = lengths[:more]
            else:
                target[rows:] = ABSENT
                target_lengths[rows:] = 0
        return inputs

    def _captured(self, shape: Shape, inputs: dict[str, Tensor]) -> "_Update":
        if self._capture is None:
            self._capture = CudaCapture()
        shared = self._updates[0].gradients if self._updates else None
        update = _Update(shape, inputs, self.model, shared)
        torch.clear_autocast_cache()  # of weights that were cast outside of the graph
        update.capture(self._capture)
        torch.clear_autocast_cache()
        self._updates.append(update)
        return update


def _run(model: torch.nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return loss and statistics of features, by a model behind its front end."""
    known = {
        name: Lengths.of(value, inputs[name.removesuffix("_lengths")].size(1))
        if name.endswith("_lengths")
        else value
        for name, value in inputs.items()
    }
    with _behind_front_end(model, "speech" in inputs):
        loss, statistics, _ = model(**known)
    return loss, statistics


def _fills(own: Shape, shape: Shape) -> bool:
    """Say whether a batch goes into a shape, and fills it well enough."""
    return own.keys() == shape.keys() and all(
        rows <= shape[name][0]
        and size <= shape[name][1]
        and rows * size >= _FILLED * math.prod(shape[name])
        for name, (rows, size) in own.items()
    )


def _area(shape: Shape) -> int:
    return sum(map(math.prod, shape.values()))


@contextlib.contextmanager
def _behind_front_end(model: torch.nn.Module, of_speech: bool) -> Iterator[None]:
    """Let a model take what its encoder reads, by lengths whose bounds the host knows."""

    def before(module, arguments):
        hidden, lengths, *rest = arguments
        return hidden, Lengths.of(lengths, hidden.size(1)), *rest

    def after(module, arguments, output):
        hidden, lengths, *rest = output
        outermost = hidden[0] if isinstance(hidden, tuple) else hidden
        return hidden, Lengths.of(lengths, outermost.size(1)), *rest

    parts = {name: getattr(model, name) for name in _FRONT_END if of_speech}
    hooks = (
        model.encoder.register_forward_pre_hook(before),
        model.encoder.register_forward_hook(after),
    )
    for name in parts:
        setattr(model, name, None)
    try:
        yield
    finally:
        for name, part in parts.items():
            setattr(model, name, part)
        for hook in hooks:
            hook.remove()


class _Update:
    """Forward and backward of one shape.

    Args:
        shape: as above.
        inputs: which both read.
        model: ESPnet's.
        gradients: one for each parameter that learns, of all shapes; None: they are made.
    """

    def __init__(
        self,
        shape: Shape,
        inputs: dict[str, Tensor],
        model: torch.nn.Module,
        gradients: list[Tensor] | None,
    ):
        self.shape, self.inputs, self._model = shape, inputs, model
        self._learned = [p for p in model.parameters() if p.requires_grad]
        self.gradients = gradients or [torch.zeros_like(p) for p in self._learned]
        self.anchor = torch.zeros((), requires_grad=True)  # makes a loss one to go back from
        self._scale = torch.ones(1, device=self._learned[0].device)
        self.loss = torch.zeros(1)

    def capture(self, capture: Callable[[Work], Work]) -> None:
        """Capture both."""
        self._replay_forward = capture(self._forward)
        self._replay_backward = capture(self._backward)
        self.loss = self.loss.detach()  # what the backward needed is free for the next shape

    def _forward(self) -> None:
        self.loss, self._statistics = _run(self._model, self.inputs)

    def _backward(self) -> None:
        scale = self._scale.to(self.loss.dtype)
        found = torch.autograd.grad(self.loss, self._learned, scale, allow_unused=True)
        self._used = [number for number, each in enumerate(found) if each is not None]
        own = [self.gradients[number] for number in self._used]
        torch._foreach_add_(own, [found[number] for number in self._used])

    def run_forward(self) -> dict[str, Tensor]:
        """Compute loss and statistics of what the inputs hold; return the statistics."""
        self._replay_forward()
        return self._statistics

    def run_backward(self, gradient: Tensor) -> None:
        """Add the gradients of the loss, times `gradient` (1,), to those of the parameters."""
        self._scale.copy_(gradient)
        fresh = []
        for parameter, own in zip(self._learned, self.gradients, strict=True):
            if parameter.grad is None:
                fresh.append(own)
            elif parameter.grad is not own:  # of a batch that had no graph
                own.copy_(parameter.grad)
        if fresh:
            torch._foreach_zero_(fresh)
        self._replay_backward()
        for number in self._used:
            self._learned[number].grad = self.gradients[number]


class _Loss(torch.autograd.Function):
    """The loss of an update, from which its own backward goes back."""

    @staticmethod
    def forward(ctx, anchor: Tensor, update: _Update) -> Tensor:
        ctx.update = update
        return update.loss.detach().clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        ctx.update.run_backward(gradient)
        return None, None
