#!/usr/bin/env python3
"""Score the baseline that always answers with the most frequent text of training.

usage: most_frequent.py data/train data/test OUTPUT_DIR
"""

import sys
from collections import Counter
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.score.bleu import score_translation

TEXT = "text.tc.en"


def main(train: Path, test: Path, output: Path) -> None:
    """Write `<output>/<test>/text` and its scores, and print them."""
    counts = Counter(read_table(train / TEXT).values())
    answer = min(counts, key=lambda text: (-counts[text], text))
    directory = output / test.name
    write_table(directory / "text", dict.fromkeys(read_table(test / TEXT), answer))
    results = score_translation(test / TEXT, directory / "text", test / "utt2spk", directory)
    scores = ", ".join(f"{each['name']} {each['score']:.1f}" for each in results["tc"])
    print(f"{directory}: always {answer!r} ({counts[answer]} of {counts.total()}): {scores}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
