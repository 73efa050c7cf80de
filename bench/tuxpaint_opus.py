#!/usr/bin/env python3
"""Write the recordings of tuxpaint's data directories as Opus of 16 kHz: 28 MB instead of 162.

usage: bench/tuxpaint_opus.py RECIPE_DIR OUT

OUT gets data/, as RECIPE_DIR has it after stage 1, and downloads/opus/; its wav.scp name those.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mtla_espnet.data.audio import read_audio
from mtla_espnet.data.tables import read_table, write_table
from mtla_espnet.files import atomic_path
from mtla_espnet.parallel import run_jobs

SETS = ("train", "valid", "test")
RATE_HZ = 16000
# libsndfile's scale from 256 to 6 kbit/s: 20 kbit/s.
COMPRESSION = 0.944
BLOCK = 200


def main(recipe: Path, out: Path) -> None:
    """Write what is not there yet."""
    tables = {name: read_table(recipe / "data" / name / "wav.scp") for name in SETS}
    items = [item for table in tables.values() for item in table.items()]
    directory = out / "downloads/opus"
    directory.mkdir(parents=True, exist_ok=True)

    def encode(block: list[tuple[str, str]]) -> None:
        for key, path in block:
            target = directory / f"{key}.opus"
            if not target.exists():
                _encode(recipe / path, target)

    blocks = [items[i : i + BLOCK] for i in range(0, len(items), BLOCK)]
    run_jobs(encode, blocks, n_workers=2, progress="Opus")
    (out / "data").mkdir(exist_ok=True)
    shutil.copy2(recipe / "data/lm_text", out / "data")
    for name, table in tables.items():
        shutil.copytree(recipe / "data" / name, out / "data" / name, dirs_exist_ok=True)
        places = {key: f"downloads/opus/{key}.opus" for key in table}
        write_table(out / "data" / name / "wav.scp", places)


def _encode(source: Path, target: Path) -> None:
    samples, rate_hz = read_audio(source)
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
