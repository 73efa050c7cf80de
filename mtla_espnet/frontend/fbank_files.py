"""Files of log-Mel features: `mtla-espnet feats fbank-zip` and `fbank-ark`."""

import argparse

from mtla_espnet.files import UserError
from mtla_espnet.frontend import files
from mtla_espnet.frontend.fbank import fbank_extractor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    files.add_arguments(parser)
    parser.add_argument("--n_mels", type=int, default=80, help="Mel bands")


def write(arguments: argparse.Namespace, form: str) -> None:
    """Write the features of data directories as `zip` or `ark`."""
    if arguments.n_mels < 4:
        raise UserError(f"--n_mels must be at least 4, not {arguments.n_mels}", exit_code=2)
    files.write_files(arguments, fbank_extractor(arguments.n_mels), form)
