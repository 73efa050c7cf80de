"""The models of the page: what they make of an input, and what it costs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.files import UserError
from mtla_espnet.inference.from_files import load
from mtla_espnet.inference.meter import Cost, Meter
from mtla_espnet.inference.model_files import task_of_files
from mtla_espnet.inference.pieces import Piece, outcomes_of, pieces_of, recognised
from mtla_espnet.inference.times import check_times
from mtla_espnet.inference.trained_model import TrainedModel
from mtla_espnet.report.rows import kind_label
from mtla_espnet.task.record import Task

# Names of inputs, for messages.
_RECORDING, _TEXT = Path("the recording"), "the text"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model made of an input.

    Args:
        pieces: of a recording, with the times of words where the model can tell them; of a text
            one, without times.
        cost: what encoder and search took.
    """

    pieces: tuple[Piece, ...]
    cost: Cost

    @property
    def text(self) -> str:
        """The text of all pieces."""
        return " ".join(piece.text for piece in self.pieces)


class ShownModel:
    """A model that the page offers.

    Args:
        path: directory of an experiment, or a pack of it.
        device: of torch, or `auto`.
        longest_s: of the pieces that a long recording is cut into, in seconds.

    Raises:
        UserError: the model is not whole.
    """

    def __init__(self, path: Path, device: str, longest_s: float):
        self.task: Task = task_of_files(path)
        self._model = load(self.task.name, path, device=device)
        self.kind = kind_of(self._model)
        self.name = f"{self.kind}: {path.resolve().name}"
        self.beam_size = self._model.options.beam_size
        self._longest_s = longest_s
        self._times = "word"
        try:
            check_times(self._model, path)
        except UserError:
            self._times = None
        # the first call of libraries takes longer, and would count as the model's
        self._model.decode_prepared([self._model.example()])

    @property
    def tells_times(self) -> bool:
        """Whether it tells when words are spoken."""
        return self._times is not None

    def answer(self, value: tuple[np.ndarray, int] | str, beam_size: int) -> Answer:
        """Return what the model makes of an input.

        Args:
            value: samples of any length and their rate in Hz; or a text.
            beam_size: hypotheses that the search keeps.

        Raises:
            UserError: the model cannot take it.
        """
        self._model.set_beam_size(beam_size)
        meter = Meter(self._model.device)
        with meter.whole() as cost:
            if isinstance(value, str):
                (outcome,) = outcomes_of(self._model, [(_TEXT, value)], meter)
                if isinstance(outcome, UserError):
                    raise outcome
                text = outcome[0][0] if outcome else ""
                pieces = [Piece(Path(_TEXT), 0.0, 0.0, text or "", whole=True)]
            else:
                cut = pieces_of(
                    [(_RECORDING, value)], self._model.rate_hz, "silence", self._longest_s
                )
                pieces = list(recognised(self._model, cut, _refuse, self._times, meter=meter))
        return Answer(tuple(pieces), cost)


def shown_models(paths: Sequence[Path], device: str, longest_s: float) -> list[ShownModel]:
    """Load the models of the page.

    Raises:
        UserError: one is not whole, or some hear while others read.
    """
    models = [ShownModel(path, device, longest_s) for path in paths]
    for path, model in zip(paths, models, strict=True):
        if model.task.speech != models[0].task.speech:
            first, other = ("hears", "reads") if models[0].task.speech else ("reads", "hears")
            raise UserError(f"{path}: {other}, and {paths[0]} {first}: show them on two pages")
    for name in {model.name for model in models}:
        alike = [model for model in models if model.name == name]
        for number, model in enumerate(alike[1:], 2):
            model.name = f"{name} ({number})"
    return models


def read_recording(path: str) -> tuple[np.ndarray, int]:
    """Return the samples of an uploaded recording, and their rate in Hz.

    Raises:
        UserError: it is not audio; the message does not tell where it was stored.
    """
    try:
        return read_audio(path, channel=None)
    except UserError as error:
        raise UserError(str(error).replace(path, str(_RECORDING))) from None


def kind_of(model: TrainedModel) -> str:
    """Return the attention kind of a model with its down-sampling, or ESPnet's decoder."""
    decoder = model.model.decoder
    if not isinstance(decoder, DecoderOnly):
        return model.train_args.decoder
    return kind_label(decoder.attention, decoder.down_rate)


def _refuse(path: Path, error: UserError) -> None:
    raise error
