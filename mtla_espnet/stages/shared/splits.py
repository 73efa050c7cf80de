"""A large training set in parts (`--num_splits_asr N`, `_lm`): one at a time is in memory.

ESPnet reads a part an epoch of its own, in turn (`--multiple_iterator true`), from directories
with `num_splits` and `split.<number>` in place of tables.
"""

import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.directories import scratch_directory
from mtla_espnet.files import UserError, write_text

_DATA, _SHAPE = "--train_data_path_and_name_and_type", "--train_shape_file"


def in_splits(
    argv: list[str],
    exp_dir: Path,
    n_splits: int,
    write: bool,
    left_out: Collection[str] = (),
) -> list[str]:
    """Let a training read its training set in parts, which are beside its model.

    Args:
        argv: arguments of ESPnet's training.
        exp_dir: of the training.
        n_splits: parts; below 2 the arguments stay as they are.
        write: write the parts too.
        left_out: ids that are in no part.

    Returns:
        The arguments.

    Raises:
        UserError: tables speak of different utterances, or there are fewer than parts.
    """
    if n_splits < 2:
        return argv
    directory = exp_dir / f"splits{n_splits}"
    words, tables = split_arguments(argv, directory)
    if write:
        write_splits(tables, directory, n_splits, left_out)
    return words


def split_arguments(argv: Sequence[str], directory: Path) -> tuple[list[str], list[Path]]:
    """Let a training read parts in place of the tables of its training set.

    Args:
        argv: arguments of ESPnet's training.
        directory: where the parts are.

    Returns:
        The arguments by which it does, and the tables.
    """
    words, tables = list(argv), []
    for place, word in enumerate(argv[:-1]):
        if word in (_DATA, _SHAPE):
            path, comma, kind = argv[place + 1].partition(",")
            tables.append(Path(path))
            words[place + 1] = f"{directory / Path(path).name}{comma}{kind}"
    return [*words, "--multiple_iterator", "true"], tables


def write_splits(
    tables: Sequence[Path], directory: Path, n_splits: int, left_out: Collection[str] = ()
) -> None:
    """Write the parts: utterance i is in part i modulo `n_splits`, as in ESPnet.

    Args:
        tables: of the training set, by utterance; their names differ.
        directory: of the parts; what is there is replaced.
        n_splits: parts.
        left_out: ids that are in no part.

    Raises:
        UserError: tables speak of different utterances, or there are fewer than parts.
    """

    def read(path: Path) -> dict[str, str]:
        return {key: value for key, value in read_table(path).items() if key not in left_out}

    first = list(read(tables[0]))
    if len(first) < n_splits:
        raise UserError(f"{tables[0]}: {len(first)} utterances cannot be {n_splits} parts")
    with scratch_directory(directory.parent) as scratch:
        for path in tables:
            table = read(path)
            if list(table) != first:
                raise UserError(f"{path}: has other utterances than {tables[0]}")
            for number in range(n_splits):
                part = {key: table[key] for key in first[number::n_splits]}
                write_table(scratch / path.name / f"split.{number}", part)
            write_text(scratch / path.name / "num_splits", f"{n_splits}")
        shutil.rmtree(directory, ignore_errors=True)
        os.rename(scratch, directory)
