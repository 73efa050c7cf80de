"""References and hypotheses of a set, paired by id."""

from collections.abc import Mapping
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError

_NAMED = 5


def read_pairs(
    reference_text: Path, hypothesis_text: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Read two tables that have the same ids.

    Args:
        reference_text: table of id -> sentence.
        hypothesis_text: table of id -> sentence, with the same ids.

    Returns:
        References and hypotheses, both in the order of the references.

    Raises:
        UserError: a file is missing, malformed or empty, or an id is on one side only.
    """
    references = read_table(reference_text)
    hypotheses = read_table(hypothesis_text)
    if not references:
        raise UserError(f"{reference_text}: empty file; there is nothing to score")
    check_ids(references, hypotheses, f"{hypothesis_text}: no line for", "decode it again")
    check_ids(hypotheses, references, f"{reference_text}: no line for", "hypotheses exist for it")
    return references, {key: hypotheses[key] for key in references}


def read_speakers(utt2spk: Path, keys: Mapping[str, object]) -> dict[str, str]:
    """Read the speaker of each id.

    Args:
        utt2spk: table of id -> speaker, with at least these ids.
        keys: ids, in the wanted order.

    Raises:
        UserError: the file is missing or malformed, or an id has no speaker.
    """
    speakers = read_table(utt2spk)
    check_ids(keys, speakers, f"{utt2spk}: no speaker of", "add it")
    return {key: speakers[key] for key in keys}


def check_ids(
    wanted: Mapping[str, object], there: Mapping[str, object], message: str, advice: str
) -> None:
    """Refuse ids that are wanted and not there.

    Raises:
        UserError: `message`, how many and which ids, `advice`.
    """
    missing = [key for key in wanted if key not in there]
    if missing:
        named = ", ".join(missing[:_NAMED]) + (" ..." if len(missing) > _NAMED else "")
        raise UserError(f"{message} {len(missing)} of {len(wanted)} ids: {named} ({advice})")
