"""Speech recognition: a trained model as a function from audio to text."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import soxr
import torch

from mtla_espnet.data.audio import read_audio
from mtla_espnet.search.speech_model import SpeechModel


class Speech2Text(SpeechModel):
    """An ASR model with its beam search; ESPnet's call.

    Args:
        asr_train_config: the `config.yaml` that training wrote.
        asr_model_file: parameters, saved by `torch.save`.
        options: the other arguments of `TrainedModel`.

    Raises:
        UserError: see there.

    Example:
        >>> import soundfile
        >>> speech2text = Speech2Text.from_pretrained("exp/asr")  # doctest: +SKIP
        >>> speech, rate = soundfile.read("speech.wav")  # doctest: +SKIP
        >>> text, token, token_int, hypothesis = speech2text(speech)[0]  # doctest: +SKIP
    """

    task = "asr"

    def __init__(
        self, asr_train_config: str | os.PathLike, asr_model_file: str | os.PathLike, **options
    ):
        super().__init__(asr_train_config, asr_model_file, **options)


def transcribe(
    model: Path,
    audio_paths: Sequence[Path],
    beam_size: int = 10,
    ctc_weight: float = 0.3,
    device: str = "auto",
) -> list[tuple[Path, str]]:
    """Turn recordings into text.

    Args:
        model: see `Speech2Text.from_pretrained`.
        audio_paths: recordings of any format and rate; the first channel counts.
        beam_size: hypotheses kept.
        ctc_weight: weight of the CTC scores, in 0 to 1.
        device: of torch; "auto": CUDA where there is a GPU, else the CPU.

    Returns:
        Path and text of each recording, in the given order.

    Raises:
        UserError: a recording is missing, truncated or empty, or the model is not whole.
    """
    recordings = [(path, *read_audio(path)) for path in audio_paths]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    speech2text = Speech2Text.from_pretrained(
        model, beam_size=beam_size, ctc_weight=ctc_weight, device=device
    )
    texts = []
    for path, samples, rate_hz in recordings:
        if rate_hz != speech2text.rate_hz:
            samples = soxr.resample(samples, rate_hz, speech2text.rate_hz)
        results = speech2text(samples)
        if not results:
            logging.warning(f"{path}: nothing was recognised")
        texts.append((path, (results[0][0] or "") if results else ""))
    return texts
