#!/usr/bin/env python3
"""Makes the texts that the translator of a cascade reads, and scores what it wrote.

usage: cascade.py prepare|score DATA WORK "TEST_SET ..."

WORK/asr has the recogniser and what it wrote, WORK/mt the translator. A test set `test_x` has the
recogniser's words for source, `true_x` the true ones.
"""

import sys
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.score.bleu import score_translation

SOURCE, TARGET = "text.lc.rm.en", "text.tc.de"
NOTHING = "nothing"  # is translated where the recogniser heard no word


def prepare(data: Path, work: Path, tests: list[str]) -> None:
    """Write the data directories of the translator."""
    for name in ("train", "valid", *tests):
        source = read_table(data / name / SOURCE)
        _write(data / name, work / "mt/data" / _true(name), source)
        if name in tests:
            heard = read_table(work / "asr/exp/model/decode" / name / "text")
            heard = {key: text or NOTHING for key, text in heard.items()}
            _write(data / name, work / "mt/data" / name, heard)


def score(data: Path, work: Path, tests: list[str]) -> None:
    """Score the translations, and print it."""
    output = work.parent / "baselines"
    for name in tests:
        for baseline, decoded in (("cascade", name), ("cascade_true", _true(name))):
            directory = output / baseline / name
            texts = read_table(work / "mt/exp/model/decode" / decoded / "text")
            write_table(directory / "text", texts)
            results = score_translation(
                data / name / TARGET, directory / "text", data / name / "utt2spk", directory,
                language="de",
            )  # fmt: skip
            scores = ", ".join(f"{each['name']} {each['score']:.1f}" for each in results["tc"])
            print(f"{directory}: {scores}")


def _true(name: str) -> str:
    return name.replace("test_", "true_")


def _write(source: Path, target: Path, words: dict[str, str]) -> None:
    write_table(target / "src_text", words)
    write_table(target / "text", read_table(source / TARGET))
    for table in ("utt2spk", "spk2utt"):
        write_table(target / table, read_table(source / table))


if __name__ == "__main__":
    {"prepare": prepare, "score": score}[sys.argv[1]](
        Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4].split()
    )
