"""Documents with their summaries, behind a heading in words that says what each is about.

A summary takes up a name, which the document seldom holds. So a model reads the document behind a
heading, and a mark ends the heading and says what is asked:

    function square ( x ) in module [summary] Parameters ---------- x : float The number.
"""

import logging
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.data.kaldi.datadir import ILLEGAL_WORDS
from mtla_espnet.data.kaldi.tables import spk2utt_from, write_table
from mtla_espnet.data.text.sentences import split_sentences
from mtla_espnet.files import UserError

# The end of a heading, and what is asked: the summary, or of an auxiliary pair.
SUMMARY_MARK, FIRST_MARK, GAP_MARK = "[summary]", "[first]", "[gap]"
# Words of a sentence that an auxiliary pair asks for: as many as a summary may have.
_SENTENCE_WORDS = (4, 25)


class Pair(NamedTuple):
    """A document and its summary.

    Args:
        name: of what it is about, unique in its group.
        heading: what it is about, in words.
        summary: on one line.
        document: on one line.
        mark: what is asked.
    """

    name: str
    heading: str
    summary: str
    document: str
    mark: str = SUMMARY_MARK

    @property
    def source(self) -> str:
        """What the model reads."""
        return f"{self.heading} {self.mark} {self.document}"


def is_usable(words: Sequence[str]) -> bool:
    """Say whether all can stand in a text of a data directory."""
    return all(word.isprintable() and word not in ILLEGAL_WORDS for word in words)


def auxiliary_pairs(pair: Pair, share: float = 1.0) -> list[Pair]:
    """Make pairs that teach to copy, from a document alone; its summary is not used.

    The mark says what is asked: `FIRST_MARK` for the document's first sentence, and `GAP_MARK` for
    the sentence that was taken out of it, the one that shares most words with the rest (gap
    sentences: arXiv 1912.08777).

    Args:
        pair: of a training set.
        share: of all auxiliary pairs that are made; the name decides, so that it is the same
            ones each time.

    Returns:
        None, one or two; a summary has 4 to 25 words.

    Example:
        >>> document = "It adds two numbers. Two numbers are added here."
        >>> made = auxiliary_pairs(Pair("m.add", "function add in m", "", document))
        >>> made[0].source
        'function add in m [first] It adds two numbers. Two numbers are added here.'
        >>> made[1].source, made[1].summary
        ('function add in m [gap] It adds two numbers.', 'Two numbers are added here.')
    """
    first, *others = split_sentences(pair.document)
    made = []
    if _fits(first):
        made.append(pair._replace(name=f"{pair.name}~first", summary=first, mark=FIRST_MARK))
    candidates = [number for number, each in enumerate(others) if _fits(each)]
    if candidates:
        best = max(candidates, key=lambda number: _overlap([first, *others], number + 1))
        rest = " ".join([first, *others[:best], *others[best + 1 :]])
        made.append(Pair(f"{pair.name}~gap", pair.heading, others[best], rest, GAP_MARK))
    return [each for each in made if zlib.crc32(each.name.encode()) < share * 2**32]


def write_pairs(
    output: Path,
    groups: Mapping[str, Sequence[Pair]],
    limits: tuple[int, int | None],
    seen: set[str],
    auxiliary_share: float = 0.0,
) -> None:
    """Write the data directory of a set: `text`, `src_text`, `utt2spk` and `spk2utt`.

    Args:
        output: directory to write.
        groups: what stands for the speaker -> its pairs; has no character below `-` in its name.
        limits: words that a document keeps, and characters of the longest summary (None: any).
        seen: documents that a set has and no other may have; those of this one are added.
        auxiliary_share: of the pairs that can be made of documents alone, to be added.

    Raises:
        UserError: the set has no pair.
    """
    summaries, sources, speakers = {}, {}, {}
    count = 0
    max_words, max_characters = limits
    for group, pairs in groups.items():
        # ids sort as their speakers do: no speaker has the character that follows it
        speaker = group.replace("-", "_")
        for pair in pairs:
            if f"{speaker}-{pair.name}" in speakers or pair.document in seen:
                continue
            seen.add(pair.document)
            pair = pair._replace(document=" ".join(pair.document.split()[:max_words]))
            for each in (pair, *auxiliary_pairs(pair, auxiliary_share)):
                if max_characters is not None and len(each.summary) > max_characters:
                    continue
                key = f"{speaker}-{each.name}"
                summaries[key], sources[key] = each.summary, each.source
                speakers[key] = speaker
                count += each is pair
    if not speakers:
        raise UserError(f"{output}: no document of {', '.join(groups) or 'any package'}")
    write_table(output / "text", summaries)
    write_table(output / "src_text", sources)
    write_table(output / "utt2spk", speakers)
    write_table(output / "spk2utt", spk2utt_from(speakers))
    auxiliary = f", and {len(speakers) - count} auxiliary pairs" if auxiliary_share else ""
    logging.info("%s: %d documents in %d groups%s", output, count, len(groups), auxiliary)


def _fits(sentence: str) -> bool:
    least, most = _SENTENCE_WORDS
    return least <= len(sentence.split()) <= most


def _overlap(sentences: list[str], number: int) -> float:
    """Return the F1 of the words that a sentence shares with the others."""
    words = set(sentences[number].lower().split())
    rest = set(" ".join(sentences[:number] + sentences[number + 1 :]).lower().split())
    return 2 * len(words & rest) / (len(words) + len(rest))
