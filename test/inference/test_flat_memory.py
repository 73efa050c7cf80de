"""Memory and file descriptors stay flat over many calls, and over a decode of many utterances."""

import ctypes
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.inference.decode import decode
from mtla_espnet.inference.journal import Journal
from mtla_espnet.inference.speech2text import Speech2Text

pytestmark = [
    pytest.mark.espnet,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc"),
]

OPTIONS = {"beam_size": 2, "ctc_weight": 0.3, "maxlenratio": -3}
MOST_GROWN_BYTES = 8_000_000


def held():
    """Bytes of memory that are in use, and the number of open files."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE"), len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("calls", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_calls_of_speech2text(model, calls):
    speech2text = Speech2Text.from_pretrained(model.directory, **OPTIONS)
    random = np.random.default_rng(0)

    def call():
        lengths = random.integers(300, 5000, size=2)
        speech2text([random.normal(0, 0.1, length) for length in lengths])

    for _ in range(calls // 4):
        call()
    before, files = held()
    for _ in range(calls):
        call()
    after, files_after = held()
    assert files_after == files
    assert after - before <= MOST_GROWN_BYTES


@pytest.mark.parametrize("utterances", [160, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_decode(recipe, model, tmp_path, utterances):
    source = recipe / "dump/raw/test"
    for name in ("wav.scp", "utt2num_samples"):
        lines = list(read_table(source / name).values())
        keys = {f"utt{n:04}": lines[n % len(lines)] for n in range(utterances)}
        write_table(tmp_path / "data" / name, keys)
    sizes = []

    class Measured(Journal):
        batches = 0

        def add(self, found, cost):
            super().add(found, cost)
            self.batches += 1
            if self.batches % (utterances // 40) == 0:
                sizes.append(held())

    with Measured(tmp_path / "journals", "a") as journal:
        cost, failed = decode(
            task="asr",
            train_config=model.config_file,
            model_file=model.file,
            token_list=None,
            inference_config=OPTIONS,
            data_dir=tmp_path / "data",
            keys=None,
            output_dir=tmp_path / "out",
            batch_size=8,
            max_memory_bytes=None,
            ngpu=0,
            progress=False,
            journal=journal,
        )
    assert cost["utterances"] == utterances and not failed
    assert len(sizes) == 5
    assert max(sizes)[0] - sizes[0][0] <= MOST_GROWN_BYTES
    assert {files for _, files in sizes} == {sizes[0][1]}
