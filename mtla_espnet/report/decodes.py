"""The decoded and scored sets of an experiment: what each reached, and what it cost."""

import dataclasses
from pathlib import Path

from mtla_espnet.score import bleu, intent, rouge
from mtla_espnet.score.efficiency import FILE, read_efficiency
from mtla_espnet.score.intent import IntentScores, read_intents
from mtla_espnet.score.result import Totals, read_result
from mtla_espnet.score.rouge import SummaryScores, read_summaries

RATES = ("wer", "cer", "ter")

# Files of results in a decoded set's directory.
_WORDS = "score_wer/result_asr.txt"
_INTENTS = f"{intent.DIRECTORY}/{intent.FILE}"
_SUMMARIES = f"{rouge.DIRECTORY}/{rouge.FILE}"
_TRANSLATIONS = {case: f"{bleu.DIRECTORY}/{name}" for case, name in bleu.RESULTS.items()}
_RATES = {rate: f"score_{rate}/result.txt" for rate in RATES}
_ALL = (*_RATES.values(), *_TRANSLATIONS.values(), _INTENTS, _SUMMARIES)


@dataclasses.dataclass(frozen=True)
class Decode:
    """One decoded set of an experiment; what its task does not have is empty or None.

    Args:
        inference_tag: which decoding; empty of what nothing was decoded for, as a baseline.
        test_set: which set; may hold a slash (`org/valid`).
        rates: "wer", "cer", "ter" -> sums, as far as they are scored.
        efficiency: what `efficiency.json` holds; None without that file.
        translation: "tc", "lc" -> name of a metric -> what sacrebleu says.
        intents: accuracies.
        words: errors in the words after the intent.
        summaries: ROUGE, beside that of the first sentence.
    """

    inference_tag: str
    test_set: str
    rates: dict[str, Totals]
    efficiency: dict | None
    translation: dict[str, dict[str, dict]] = dataclasses.field(default_factory=dict)
    intents: IntentScores | None = None
    words: Totals | None = None
    summaries: SummaryScores | None = None

    @property
    def name(self) -> str:
        """Name in tables."""
        return "/".join(filter(None, (self.inference_tag, self.test_set)))


def find_decodes(exp_dir: Path) -> list[Decode]:
    """Find the decoded and scored sets of an experiment, sorted by name.

    Raises:
        UserError: a file of one of them cannot be read.
    """
    found = {path.parent.parent for name in _ALL for path in exp_dir.rglob(name)}
    return [_read(exp_dir, directory) for directory in sorted(found)]


def _read(exp_dir: Path, directory: Path) -> Decode:
    inference_tag, slash, test_set = directory.relative_to(exp_dir).as_posix().partition("/")
    if not slash:
        inference_tag, test_set = "", inference_tag

    def there(reader, name: str):
        return reader(directory / name) if (directory / name).exists() else None

    def all_there(reader, names: dict[str, str]) -> dict:
        return {
            key: reader(directory / name)
            for key, name in names.items()
            if (directory / name).exists()
        }

    return Decode(
        inference_tag,
        test_set,
        rates=all_there(read_result, _RATES),
        efficiency=there(read_efficiency, FILE),
        translation=all_there(bleu.read_bleu, _TRANSLATIONS),
        intents=there(read_intents, _INTENTS),
        words=there(read_result, _WORDS),
        summaries=there(read_summaries, _SUMMARIES),
    )
