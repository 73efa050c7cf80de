"""What a model cannot be trained on, found before its training: the encoder is tried on silence.

An encoder makes no frame of an utterance that is shorter than its convolutions, and some
pretrained ones have positions for so many seconds alone. CTC needs a frame for every token, and
one more between two equal ones: of a text that is longer its loss is infinite, which ESPnet
sets to 0 without a word: the other losses alone learn from it. The decoders have no limit,
since their positions are rotary.
"""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import TooShortUttError
from espnet2.st.espnet_model import ESPnetSTModel
from torch import Tensor

from mtla_espnet.files import UserError

# What torch.stft says of a signal that is shorter than its window.
_STFT_REFUSALS = ("expected 0 < n_fft", "Padding size should be less than")


def is_too_short(error: Exception) -> bool:
    """Tell whether an encoder failed because its input is too short for it."""
    refused = any(words in str(error) for words in _STFT_REFUSALS)
    return isinstance(error, TooShortUttError) or refused


def ctc_frames(tokens: Sequence[int]) -> int:
    """Return the fewest frames that CTC can align tokens with.

    Example:
        >>> ctc_frames([5, 7, 7, 5])
        5
    """
    return len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))


def _refuse(message: str) -> NoReturn:
    raise UserError(f"ESPnet's training: {message}", exit_code=2)


class ModelLimits:
    """The limits of a model of speech, before its training.

    Args:
        task: a class of ESPnet's tasks.
        argv: arguments of its training.

    Raises:
        UserError: ESPnet refuses an argument.
    """

    def __init__(self, task: type, argv: Sequence[str]):
        parser = task.get_parser()
        parser.error = _refuse  # argparse would end the process
        args = parser.parse_args(argv)
        with torch.random.fork_rng(devices=[]):
            self._model = task.build_model(args).eval()
        self._preprocess = task.build_preprocess_fn(args, train=False)
        self._known: dict[tuple[int, ...], int] = {}

    @property
    def ctc_texts(self) -> dict[str, int]:
        """Names of the texts that CTC aligns -> tokens at their beginning that it leaves out."""
        model = self._model
        if not isinstance(model, ESPnetSTModel):
            return {} if model.ctc is None else {"text": getattr(model, "ctc_skip_tokens", 0)}
        if model.hier_encoder is not None or model.postencoder is not None:
            return {}  # its two texts are aligned with different frames
        names = {"text": "st_ctc", "src_text": "ctc"}
        return {name: 0 for name, part in names.items() if getattr(model, part, None) is not None}

    @torch.no_grad()
    def frames(self, shape: tuple[int, ...]) -> int:
        """Return how many frames the encoder makes of (T,) samples or (T, D) features; 0: none.

        Raises:
            UserError: it cannot take an utterance so long.
        """
        if shape not in self._known:
            speech, lengths = torch.zeros(1, *shape), torch.tensor(shape[:1])
            try:
                frames: Tensor = self._model.encode(speech, lengths)[1]
                self._known[shape] = int(frames[0])
            except Exception as error:
                if not is_too_short(error):
                    raise
                self._known[shape] = 0
        return self._known[shape]

    def refused(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
        """Find the utterances that the encoder cannot take.

        Args:
            shapes: id -> (T,) samples, or (T, D) features.

        Returns:
            id -> reason.
        """
        lengths = sorted(set(shapes.values()))
        reasons = {}
        for shape in reversed(lengths):
            try:
                self.frames(shape)
            except UserError as error:
                reasons[shape] = str(error)
            else:
                break
        for shape in lengths:
            if shape in reasons or self.frames(shape):
                break
            unit = "samples" if len(shape) == 1 else "frames"
            reasons[shape] = f"{shape[0]} {unit} are too short for the encoder"
        return {key: reasons[shape] for key, shape in shapes.items() if shape in reasons}

    def unaligned(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        counts: Mapping[str, Mapping[str, tuple[int]]],
        texts: Mapping[str, Mapping[str, str]],
    ) -> dict[str, tuple[str, str]]:
        """Find the utterances with a text that CTC cannot align.

        The encoder runs on a few lengths, not on each: its frames grow by a fixed stride. Those
        of an encoder that pads otherwise are not looked at.

        Args:
            shapes: id -> (T,) samples, or (T, D) features, of what the encoder can take.
            counts: name of a text -> id -> (L,), its tokens.
            texts: name of a text -> id -> the text.

        Returns:
            id -> name of the text, reason.
        """
        aligned = self.ctc_texts
        growth = self._growth(sorted(set(shapes.values()))) if aligned and shapes else None
        if growth is None:
            return {}
        stride, offset = growth
        found = {}
        for (key, shape), (name, skipped) in itertools.product(shapes.items(), aligned.items()):
            frames = (shape[0] + offset) // stride
            if 2 * (counts[name][key][0] - skipped) - 1 <= frames:
                continue  # enough, were all of them equal
            tokens = self._preprocess(key, {"text": "", name: texts[name][key]})[name][skipped:]
            needed = ctc_frames(list(tokens))
            if needed > frames:
                reason = (
                    f"CTC needs {needed} frames for its {len(tokens)} tokens, "
                    f"and the encoder makes {frames} of the audio"
                )
                found[key] = (name, reason)
        return found

    def _growth(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, int] | None:
        """Return s and o where frames are (T + o) // s; None: they do not grow so.

        Sub-sampling on sub-sampling has that form. Both follow from the lengths at which the
        two last frames of one utterance begin.

        Args:
            shapes: in order.
        """
        middle, *features = shapes[len(shapes) // 2]
        most = self.frames((middle, *features))
        if most < 2:
            return None
        low = max(1, middle - 4 * middle // most)

        def begin_of(frame: int) -> int:
            lengths = range(low, middle + 1)
            counted = bisect.bisect_left(lengths, frame, key=lambda n: self.frames((n, *features)))
            return low + counted

        stride = begin_of(most) - begin_of(most - 1)
        offset = most * stride - begin_of(most)
        ends = shapes[0], shapes[-1]
        right = stride and all(self.frames(end) == (end[0] + offset) // stride for end in ends)
        return (stride, offset) if right else None
