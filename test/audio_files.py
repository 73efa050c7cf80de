"""Audio and data directories that tests make."""

from pathlib import Path

import kaldiio
import numpy as np
import soundfile

from mtla_espnet.data.kaldi.datadir import write_data_dir

SPH = Path(__file__).parent / "fixtures" / "an4_quarter_second.sph"


def sph_samples():
    """The fixture as its header describes it: 1024 bytes of header, 4000 little-endian int16."""
    return np.frombuffer(SPH.read_bytes()[1024:], "<i2")


def noise(length, channels=None, seed=0):
    shape = length if channels is None else (length, channels)
    return np.random.default_rng(seed).integers(-9000, 9000, shape).astype(np.int16)


def write_wav(path, samples, rate_hz=16000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, **options)
    return path


def make_data_dir(path, recordings):
    """A data directory of `recordings`: utterance id `speaker-…` -> file."""
    write_data_dir(
        path,
        wav_scp=recordings,
        text=dict.fromkeys(recordings, "GO"),
        utt2spk={utterance: utterance.split("-")[0] for utterance in recordings},
    )
    return path


def decoded(entry):
    """The int16 samples behind an entry of wav.scp, as independent readers see them."""
    if ".ark:" in entry:
        rate_hz, samples = kaldiio.load_mat(entry)
        if isinstance(rate_hz, np.ndarray):
            rate_hz, samples = samples, rate_hz
        return (samples * 32768).astype(np.int16), rate_hz
    return soundfile.read(entry, dtype="int16")


def content(directory):
    """Every file below a directory, without the name of the directory in it."""
    return {
        str(path.relative_to(directory)): path.read_bytes().replace(bytes(directory), b"")
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
