"""Make test/fixtures/sclite: what NIST's sclite says about varied sentence pairs.

    python bench/sclite_fixture.py [PATH_OF_SCLITE]

The tests compare our aligner and our table with the stored files, so that they run where
sclite (Debian's package sctk) is not installed. The pairs come from a fixed seed.
"""

import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "test" / "fixtures" / "sclite"
VERSION = "sclite 2.10 (Debian sctk 2.4.10-20151007-1312Z+dfsg2-3.1)"

_BLOCK = re.compile(
    r"^id: \((?P<id>[^)]*)\)\nScores: \(#C #S #D #I\) (?P<counts>[\d ]+)\n(?:Attributes: .*\n)?"
    r"(?:REF:  (?P<ref>.*)\nHYP:  (?P<hyp>.*)\n)?",
    re.MULTILINE,
)


def sentence_pairs(n_pairs: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Draw pairs of token lists: unrelated ones, and edited copies, short and long."""
    draw = random.Random(seed)
    words = "to the light a turn off OFF on Ein É é ü <unk> it's kitchen-lamp x7 7".split()
    pairs = []
    for number in range(n_pairs):
        vocabulary = words[: draw.choice([2, 3, 5, len(words)])]
        length = draw.randint(0, 60 if number % 10 == 0 else 10)
        reference = [draw.choice(vocabulary) for _ in range(length)]
        if draw.random() < 0.4:
            hypothesis = [draw.choice(vocabulary) for _ in range(draw.randint(0, length + 3))]
        else:
            hypothesis = []
            for word in reference:
                edit = draw.random()
                if edit < 0.15:
                    continue
                hypothesis.append(draw.choice(vocabulary) if edit < 0.3 else word)
                if edit > 0.88:
                    hypothesis.append(draw.choice(vocabulary))
        pairs.append((reference, hypothesis))
    return pairs


def run_sclite(
    sclite: str, pairs: list[tuple[str, list[str], list[str]]], options: tuple[str, ...] = ()
) -> str:
    """Return sclite's whole report on (name, reference, hypothesis) triples."""
    with tempfile.TemporaryDirectory() as directory:
        for file, column in (("ref.trn", 1), ("hyp.trn", 2)):
            lines = [f"{' '.join(pair[column])}\t({pair[0]})\n" for pair in pairs]
            Path(directory, file).write_text("".join(lines), encoding="utf-8")
        command = [sclite, *options, *"-r ref.trn trn -h hyp.trn trn -i rm -o all stdout".split()]
        done = subprocess.run(command, cwd=directory, capture_output=True, check=True)
    return done.stdout.decode("utf-8")


def steps_of(reference_row: str, hypothesis_row: str) -> str:
    """Turn sclite's two rows into letters: C, S, D, I."""
    steps = []
    columns = zip(reference_row.split(), hypothesis_row.split(), strict=True)
    for reference, hypothesis in columns:
        if set(reference) == {"*"}:
            steps.append("I")
        elif set(hypothesis) == {"*"}:
            steps.append("D")
        else:
            # sclite writes a correct pair in lower case and a wrong one in capitals, or with -s
            # both as they are.
            steps.append("C" if reference == hypothesis else "S")
    return "".join(steps)


def main(sclite: str = "sclite") -> None:
    """Write the fixtures of both comparisons: that of the default, and -s (case matters)."""
    pairs = [
        (f"s{number % 7}-{number:04d}", *pair)
        for number, pair in enumerate(sentence_pairs(600, seed=5))
    ]
    pairs.sort(key=lambda pair: pair[0])
    write_fixture(pairs, run_sclite(sclite, pairs), "")
    write_fixture(pairs, run_sclite(sclite, pairs, ("-s",)), "_case")


def write_fixture(pairs: list[tuple[str, list[str], list[str]]], report: str, ending: str) -> None:
    """Write `alignments<ending>.tsv` and `result<ending>.txt` from a report."""
    blocks = {match["id"]: match for match in _BLOCK.finditer(report)}
    lines = [f"# {VERSION}: name, reference, hypothesis, steps, counts of C S D I\n"]
    for name, reference, hypothesis in pairs:
        block = blocks[name]
        steps = steps_of(block["ref"] or "", block["hyp"] or "")
        counts = [steps.count(letter) for letter in "CSDI"]
        if counts != [int(value) for value in block["counts"].split()]:
            raise RuntimeError(f"{name}: rows and counts differ: {block[0]}")
        fields = [name, " ".join(reference), " ".join(hypothesis), steps, block["counts"]]
        lines.append("\t".join(fields) + "\n")
    FIXTURES.mkdir(parents=True, exist_ok=True)
    (FIXTURES / f"alignments{ending}.tsv").write_text("".join(lines), encoding="utf-8")
    tables = report[: report.index("\t\tDUMP OF SYSTEM")]
    (FIXTURES / f"result{ending}.txt").write_text(tables, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
