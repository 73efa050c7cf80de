"""`mtla-espnet data check`: is a data directory sound, and on request, are its files?"""

import argparse
import os
from pathlib import Path

from mtla_espnet.data.checks.deep_check import check_files
from mtla_espnet.data.checks.fix import fix_data_dir
from mtla_espnet.data.kaldi.datadir import validate_data_dir, validate_text_dir
from mtla_espnet.files import UserError

# Tables of text beside `text`, by the names that recipes give them.
_TEXTS = ("text.*", "src_text", "transcript", "intent")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("data_dir", type=Path, help="a data directory, raw or formatted")
    parser.add_argument(
        "--deep",
        action="store_true",
        help="read every file: lengths, rates, clipping, silence, values that are no numbers",
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="first sort all tables and keep the ids that all have; what was there goes to .backup",
    )
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes of --deep")
    parser.add_argument(
        "--allow_pipes", action="store_true", help="accept and run the commands that wav.scp has"
    )


def run(arguments: argparse.Namespace) -> None:
    """Check a data directory, and fix it first if that is asked for.

    Raises:
        UserError: it is not sound, cannot be fixed, or a file of it cannot be used.
    """
    data_dir = arguments.data_dir
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: no such directory")
    if arguments.fix:
        for line in fix_data_dir(data_dir):
            print(line)
    texts = text_tables(data_dir)
    speech = any((data_dir / name).exists() for name in ("wav.scp", "feats.scp", "utt2spk"))
    if not speech:
        validate_text_dir(data_dir, texts or ["text"])
    else:
        audio, features = ((data_dir / name).exists() for name in ("wav.scp", "feats.scp"))
        validate_data_dir(
            data_dir,
            audio=audio or not features,
            features=features,
            texts=texts,
            allow_pipes=arguments.allow_pipes,
        )
    print(f"Successfully validated data-directory {data_dir}")
    if arguments.deep and speech:
        findings = check_files(data_dir, arguments.nj, arguments.allow_pipes)
        for line in findings.lines():
            print(line)
        if findings.unusable:
            first = findings.unusable[0]
            count = len(findings.unusable)
            raise UserError(f"{data_dir}: {count} utterances cannot be used; the first: {first}")


def text_tables(data_dir: Path) -> list[str]:
    """Return the names of the tables of text that a data directory has, `text` first."""
    found = ["text"] if (data_dir / "text").exists() else []
    for pattern in _TEXTS:
        found += sorted(path.name for path in data_dir.glob(pattern) if path.is_file())
    return list(dict.fromkeys(found))
