#!/usr/bin/env python
"""ROUGE of what needs no model, on pydocs' test documents: a table of the recipe's README.

usage: pydocs_baselines.py DATA   (egs2/pydocs/sum1/data)
"""

import sys
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import linear_kernel

from mtla_espnet.corpora.pydocs.docstrings import SUMMARY_MARK
from mtla_espnet.corpora.pydocs.heading import name_words
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.score.rouge import lead_sentence, mean_of, rouge_of_each

CONSTANT = "Return a list of the given"


def main(data: Path) -> None:
    references = read_table(data / "test/text")
    parts = {k: text.split(f" {SUMMARY_MARK} ", 1) for k, text in _sources(data, "test").items()}
    documents = {key: document for key, (_, document) in parts.items()}
    systems = {
        "first sentence of the document": {k: lead_sentence(d) for k, d in documents.items()},
        "first 12 words of the document": {
            key: " ".join(document.split()[:12]) for key, document in documents.items()
        },
        f'the same words for all: "{CONSTANT}"': dict.fromkeys(references, CONSTANT),
        "the name's words": {key: name_words(key.rpartition(".")[2]) for key in references},
        "the whole heading": {key: heading for key, (heading, _) in parts.items()},
        "summary of the training document with the most similar words (TF-IDF)": _nearest(data),
    }
    print("| without a model | ROUGE-1 | ROUGE-2 | ROUGE-L |\n|:---|---:|---:|---:|")
    for name, summaries in systems.items():
        mean = mean_of(rouge_of_each(references, summaries))
        print(f"| {name} | {mean.rouge_1:.2f} | {mean.rouge_2:.2f} | {mean.rouge_l:.2f} |")


def _sources(data: Path, name: str) -> dict[str, str]:
    """Return the documents with their headings, without those of auxiliary pairs."""
    sources = read_table(data / name / "src_text")
    return {key: source for key, source in sources.items() if f" {SUMMARY_MARK} " in source}


def _nearest(data: Path) -> dict[str, str]:
    train, test = _sources(data, "train"), _sources(data, "test")
    summaries = read_table(data / "train/text")
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    known = vectorizer.fit_transform(train.values())
    nearest = linear_kernel(vectorizer.transform(test.values()), known).argmax(axis=1)
    keys = list(train)
    return {key: summaries[keys[best]] for key, best in zip(test, nearest, strict=True)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
