"""pydocs: docstrings of installed Python packages; the task is to write the first paragraph.

Raw layout: the packages' own sources, as `docstrings.py` reads them. Nothing is downloaded
or imported.
Choices, and why:
- The packages are a fixed list of what `make env` installs, with the standard library; none that
  the tests alone need, so that the corpus is the same after `make test`. All pairs of a package
  are in one set, so that no near-duplicate of a test document is trained on; exact duplicates
  across packages are dropped from training.
- Test packages differ in subject (audio, language, audio with PyTorch); training has others
  that are written in the same conventions.
- A document is cut to its first words: the median has 77, the longest thousands.
- The name of what is documented, which a person would summarise by, is not in the document: it
  stands before it, as a heading in words that a mark ends. Duplicates are told by the documents
  alone.
- Pairs are few for a model that begins with nothing, and the words of a test package are new to
  it: it must learn to copy. So training also has pairs that are made of the training documents
  alone (`auxiliary_pairs`), told apart by the mark. By default it is half of those that could
  be made, so that the task itself has most of the updates.

Data directories: `text` (summary), `src_text` (heading and document), `utt2spk` and `spk2utt`,
where a package is the speaker. `sources.txt` beside them lists name==version of every package,
since texts change with versions.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtla_espnet.corpora.pydocs.docstrings import (
    STANDARD_LIBRARY,
    read_pairs,
    source_files,
    version,
)
from mtla_espnet.corpora.shared.summary_pairs import Pair, write_pairs
from mtla_espnet.files import UserError, read_text, write_text
from mtla_espnet.jobs.parallel import run_jobs

# In the order in which duplicates are kept: never twice, and never of training and test.
PACKAGES = {
    "test": ("librosa", "nltk", "torchaudio"),
    "valid": ("huggingface_hub", "joblib", "mpmath"),
    "train": (
        STANDARD_LIBRARY,
        *"absl-py anyio click espnet espnet_model_zoo fonttools fsspec grpcio".split(),
        *"humanfriendly lxml matplotlib narwhals networkx numba".split(),
        *"numpy packaging pandas pillow portalocker protobuf pyarrow pydantic".split(),
        *"pydantic_core pyparsing requests rich scikit-learn scipy".split(),
        *"sympy tensorboard torch transformers triton urllib3 Werkzeug".split(),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    parser.add_argument("--output", type=Path, default=Path("data"), help="data directories")
    parser.add_argument(
        "--max_document_words", type=int, default=100, help="words that a document keeps"
    )
    parser.add_argument(
        "--max_summary_characters",
        type=int,
        default=160,
        help="of a training pair: one long text in a batch costs as much as all being long",
    )
    parser.add_argument(
        "--measured_sources", type=Path, help="name==version lines that results were measured with"
    )
    parser.add_argument(
        "--auxiliary_share",
        type=float,
        default=0.5,
        help="train also on this share, 0 to 1, of the pairs that can be made of the training "
        "documents alone, which teach to copy",
    )
    for name, packages in PACKAGES.items():
        parser.add_argument(
            f"--{name}_packages", default=" ".join(packages), help="separated by blanks"
        )
    parser.add_argument("--nj", type=int, default=2, help="packages read side by side")


def prepare(args: argparse.Namespace) -> None:
    """Read the packages, then write `train`, `valid`, `test` and `sources.txt`.

    A package of the training set that is not installed is left out, with a warning.

    Raises:
        UserError: a package is in two sets, one of validation or test is not installed, a set has
            no pair, or a number is out of range.
    """
    for name in ("max_document_words", "max_summary_characters", "nj"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(args, name)}", 2)
    if not 0 <= args.auxiliary_share <= 1:
        raise UserError(f"--auxiliary_share must be 0 to 1, not {args.auxiliary_share}", 2)
    sets = {name: getattr(args, f"{name}_packages").split() for name in PACKAGES}
    versions = _versions(sets)
    if args.measured_sources is not None:
        _compare(args.measured_sources, versions)
    packages = [name for names in sets.values() for name in names if name in versions]
    pairs = dict(
        zip(packages, run_jobs(read_package, packages, args.nj, "read packages"), strict=True)
    )
    seen: set[str] = set()
    for name, names in sets.items():
        documents = {each: pairs[each] for each in names if each in pairs}
        summaries = args.max_summary_characters if name == "train" else None
        auxiliary = args.auxiliary_share if name == "train" else 0.0
        limits = (args.max_document_words, summaries)
        write_pairs(args.output / name, documents, limits, seen, auxiliary)
    listed = sorted(f"{name}=={number}\n" for name, number in versions.items())
    write_text(args.output / "sources.txt", "".join(listed))


def read_package(package: str) -> list[Pair]:
    """Read all pairs of a package, sorted by module.

    Raises:
        UserError: it is not installed.
    """
    return [pair for path, module in source_files(package) for pair in read_pairs(path, module)]


def _versions(sets: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the versions of the packages that are there."""
    found: dict[str, str] = {}
    for name, packages in sets.items():
        for package in packages:
            if package in found:
                raise UserError(f"--{name}_packages: {package!r} is there twice", exit_code=2)
            number = version(package)
            if number is not None:
                found[package] = number
            elif name == "train":
                logging.warning("%s is not installed: training goes without it", package)
            else:
                raise UserError(f"{package} of the {name} set is not installed: pip install it")
    return found


def _compare(path: Path, versions: Mapping[str, str]) -> None:
    """Warn where the sources are not those of the measured results."""
    lines = read_text(path).split()
    measured = {name: number for name, _, number in (line.partition("==") for line in lines)}
    differences = [
        f"{name} {measured.get(name, '(none)')} -> {versions.get(name, '(none)')}"
        for name in sorted(measured.keys() | versions.keys())
        if measured.get(name) != versions.get(name)
    ]
    if differences:
        logging.warning(
            "the README's results were measured with other sources: %s", "; ".join(differences)
        )
