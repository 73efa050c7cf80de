#!/usr/bin/env python3
"""Score translations that need no model, on every test set.

usage: baselines.py DATA OUTPUT_DIR

`copy` is the English text as it is; `most_frequent` is always the German text that training has
most often. Writes OUTPUT_DIR/<baseline>/<set>/{text,score_bleu}.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.score.bleu import score_translation

SOURCE, TARGET = "text.tc.en", "text.tc.de"


def most_frequent(texts: Mapping[str, str]) -> str:
    """Return the text that is there most often; of several the first by name.

    Example:
        >>> most_frequent({"a": "Nein!", "b": "Ja!", "c": "Ja!"})
        'Ja!'
    """
    counts = Counter(texts.values())
    return min(counts, key=lambda text: (-counts[text], text))


def main(data: Path, output: Path) -> None:
    """Write the baselines of every set and their scores, and print them."""
    answer = most_frequent(read_table(data / "train" / TARGET))
    for test in sorted(data.glob("test_*")):
        references = read_table(test / TARGET)
        baselines = {
            "copy": read_table(test / SOURCE),
            "most_frequent": dict.fromkeys(references, answer),
        }
        for name, translations in baselines.items():
            directory = output / name / test.name
            write_table(directory / "text", translations)
            results = score_translation(
                test / TARGET, directory / "text", test / "utt2spk", directory, language="de"
            )
            scores = ", ".join(
                f"{each['name']} {each['score']:.1f}" for case in results.values() for each in case
            )
            what = f"always {answer!r}" if name == "most_frequent" else "the English text"
            print(f"{directory}: {what}: {scores} (the last three without case)")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
