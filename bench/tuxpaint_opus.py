#!/usr/bin/env python3
"""Write the recordings of tuxpaint's data directories as Opus of 16 kHz: 22 MB instead of 162.

usage: bench/tuxpaint_opus.py CORPUS_DIR OUT

CORPUS_DIR is egs2/tuxpaint after stage 1 of asr1 and st1. OUT gets {asr1,st1}/data/ as they are
there, and asr1/downloads/opus/, which all wav.scp name.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import atomic_path
from mtla_espnet.jobs.parallel import run_jobs

RECIPES = ("asr1", "st1")
SETS = ("train", "valid", "test")
RATE_HZ = 16000
# libsndfile's scale from 256 to 6 kbit/s: 20 kbit/s.
COMPRESSION = 0.944
BLOCK = 200


def main(corpus: Path, out: Path) -> None:
    """Write what is not there yet."""
    opus = Path("asr1/downloads/opus")
    (out / opus).mkdir(parents=True, exist_ok=True)
    sources: dict[str, Path] = {}
    for recipe in RECIPES:
        for name in SETS:
            source, target = (root / recipe / "data" / name for root in (corpus, out))
            shutil.copytree(source, target, dirs_exist_ok=True)
            table = read_table(source / "wav.scp")
            sources |= {key: corpus / recipe / path for key, path in table.items()}
            places = {key: f"../{opus}/{key}.opus" for key in table}
            write_table(target / "wav.scp", places)
    shutil.copy2(corpus / "asr1/data/lm_text", out / "asr1/data")

    def encode(block: list[str]) -> None:
        for key in block:
            target = out / opus / f"{key}.opus"
            if not target.exists():
                _encode(sources[key], target)

    keys = sorted(sources)
    blocks = [keys[i : i + BLOCK] for i in range(0, len(keys), BLOCK)]
    run_jobs(encode, blocks, n_workers=2, progress="Opus")


def _encode(source: Path, target: Path) -> None:
    samples, rate_hz = read_audio(source, channel=None)
    samples = np.clip(soxr.resample(samples, rate_hz, RATE_HZ), -1.0, 1.0)
    with atomic_path(target) as temporary:
        soundfile.write(
            temporary,
            samples,
            RATE_HZ,
            format="OGG",
            subtype="OPUS",
            compression_level=COMPRESSION,
        )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
