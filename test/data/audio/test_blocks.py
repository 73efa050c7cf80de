"""Blocks that two copies of a job write at once, as where a lost node comes back."""

import threading
from concurrent.futures import ThreadPoolExecutor

from mtla_espnet.data.audio.blocks import write_blocks
from mtla_espnet.data.audio.reader import SourcePart
from mtla_espnet.data.audio.reading_options import ReadingOptions
from mtla_espnet.jobs.fan_out import jobs_run_by

QUIET = ReadingOptions(progress=False)


class Twice:
    """An engine that runs two copies of each job at once."""

    n_workers = 1

    def run_jobs(self, function, argument_list, progress):
        with ThreadPoolExecutor(2) as pool:
            pairs = [list(pool.map(function, [argument] * 2)) for argument in argument_list]
        assert all(first == second for first, second in pairs)
        return [first for first, _ in pairs]


def test_two_copies_of_a_job_write_the_same_block(tmp_path):
    """Both have looked at what is there before one of them renames."""
    source = tmp_path / "a.wav"
    source.write_bytes(b"x")
    parts = [SourcePart(f"u{n}", str(source), file="wav.scp", line=n) for n in range(1, 4)]
    together = threading.Barrier(2, timeout=120)

    def write(block, block_parts, collector):
        (block / "data").write_text(" ".join(part.utterance for part in block_parts))
        together.wait()
        return {part.utterance: ["data", 1] for part in block_parts}

    out = tmp_path / "out"
    with jobs_run_by(Twice()):
        written, rejected = write_blocks(parts, out, write, {}, "", QUIET)
    assert written == {f"u{n}": [f"{out}/format.1/data", 1] for n in range(1, 4)}
    assert rejected == []
    assert sorted(path.name for path in out.iterdir()) == [".digest", "format.1"]
    assert sorted(path.name for path in (out / "format.1").iterdir()) == ["block.json", "data"]
    assert (out / "format.1/data").read_text() == "u1 u2 u3"
