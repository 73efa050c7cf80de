#!/usr/bin/env python3
"""Write the data directories of recipes with recordings small enough to be carried.

usage: bench/speech_pack.py OUT RECIPE_DIR [RECIPE_DIR ...]

The recipes have run stage 1. OUT/<task>1/data gets the tables as they are, and
OUT/<first task>1/downloads/recordings what all wav.scp name: Opus of 16 kHz with 20 kbit/s, or
the file itself where it takes no more than that.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.data.audio.sound_file import sound_length
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import atomic_path
from mtla_espnet.jobs.parallel import run_jobs

RATE_HZ = 16000
BITS_A_SECOND = 20_000
# libsndfile's scale from 256 to 6 kbit/s: 20 kbit/s.
COMPRESSION = 0.944
BLOCK = 200


def main(out: Path, *recipes: Path) -> None:
    """Write all of it."""
    recordings = Path(recipes[0].name, "downloads/recordings")
    (out / recordings).mkdir(parents=True, exist_ok=True)
    sources: dict[str, Path] = {}
    for recipe in recipes:
        target = out / recipe.name / "data"
        target.mkdir(parents=True, exist_ok=True)
        for path in (recipe / "data").iterdir():
            if path.is_file():
                shutil.copy2(path, target)
            elif (path / "wav.scp").is_file():
                shutil.copytree(path, target / path.name, dirs_exist_ok=True)
                table = read_table(path / "wav.scp")
                sources |= {key: recipe / place for key, place in table.items()}
    small = {key: is_small(source) for key, source in sources.items()}
    names = {
        key: f"{key}{source.suffix if small[key] else '.opus'}" for key, source in sources.items()
    }
    for path in out.glob("*/data/*/wav.scp"):
        write_table(path, {key: f"../{recordings}/{names[key]}" for key in read_table(path)})

    def pack(keys: list[str]) -> None:
        for key in keys:
            if small[key]:
                shutil.copy2(sources[key], out / recordings / names[key])
            else:
                encode(sources[key], out / recordings / names[key])

    keys = sorted(sources)
    blocks = [keys[i : i + BLOCK] for i in range(0, len(keys), BLOCK)]
    run_jobs(pack, blocks, n_workers=2, progress="recordings")


def is_small(source: Path) -> bool:
    """Say whether a recording takes no more than Opus would."""
    rate_hz, samples = sound_length(str(source))
    return source.stat().st_size * 8 * rate_hz <= BITS_A_SECOND * samples


def encode(source: Path, target: Path) -> None:
    """Write a recording as Opus."""
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
