"""Our classes in espnet3: its ASR task, and Kaldi's data directories as a data set.

Importing this module makes our classes choices of espnet3's own ASR task, too. A configuration
names what is here, so that each process that builds a model from it has them:

    task: mtla_espnet.tasks.espnet3.ESPnet3ASRTask
"""

from pathlib import Path

import espnet3.systems.esp2_asr.task as espnet3_asr
import soxr
from espnet3.components.data.base_dataset import BaseDataset
from espnet3.contract import Field

from mtla_espnet.data.audio.format import read_parts
from mtla_espnet.data.audio.reader import AudioReader
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.tasks.register import DECODERS, ENCODERS, FRONTENDS

espnet3_asr.encoder_choices.classes.update(ENCODERS)
espnet3_asr.decoder_choices.classes.update(DECODERS)
espnet3_asr.frontend_choices.classes.update(FRONTENDS)


class ESPnet3ASRTask(espnet3_asr.ASRTask):
    """espnet3's ASR task, with our encoders, decoder and front ends among its choices."""


class Dataset(BaseDataset):
    """The utterances of a Kaldi data directory, in the order of their ids.

    An item has `speech`, (T,) float32 in [-1, 1), and `text`.

    Args:
        data_dir: with `wav.scp`, `text`, and maybe `segments`.
        with_id: an item has `utt_id` too, as results are named by; not where a preprocessor of
            ESPnet2 reads the items, which takes arrays alone.
        fs: sampling rate in Hz of the samples that are returned.

    Raises:
        UserError: a table is missing or malformed, or text and audio have different ids.
    """

    def __init__(self, data_dir: str, with_id: bool = False, fs: int = 16000):
        names = {"speech": "audio", "text": "text"} | ({"utt_id": "text"} if with_id else {})
        self.fields = tuple(Field(name, kind) for name, kind in names.items())
        self._parts = read_parts(Path(data_dir))
        self._texts = read_table(Path(data_dir) / "text")
        differing = {part.utterance for part in self._parts} ^ self._texts.keys()
        if differing:
            raise UserError(f"{data_dir}: {min(differing)!r} has a text and no audio, or reversely")
        self._fs = fs
        self._reader = AudioReader()

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: int) -> dict:
        part = self._parts[int(index)]
        place = part.path, part.start_s, part.end_s, part.channel
        samples, rate_hz = self._reader.read(*place)
        if rate_hz != self._fs:
            samples = soxr.resample(samples, rate_hz, self._fs)
        item = {"utt_id": part.utterance, "speech": samples, "text": self._texts[part.utterance]}
        return {field.name: item[field.name] for field in self.fields}


def texts(data_dir: str) -> list[str]:
    """Return the texts of a data directory, for `tokenizer.text_builder`."""
    return list(read_table(Path(data_dir) / "text").values())
