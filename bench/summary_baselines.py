#!/usr/bin/env python
"""ROUGE of what needs no model, on a text recipe's test documents: a table of its README.

usage: summary_baselines.py DATA [--same WORDS] [--name PATTERN]     (egs2/pydocs/sum1/data)
"""

import argparse
import re
from collections import Counter
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import linear_kernel

from mtla_espnet.corpora.pydocs.heading import name_words
from mtla_espnet.corpora.shared.summary_pairs import SUMMARY_MARK
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.data.text.sentences import split_sentences
from mtla_espnet.score.rouge import lead_sentence, mean_of, rouge_of_each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="has train and test")
    parser.add_argument("--same", help="words for all; default: training's most frequent summary")
    parser.add_argument("--name", default=r"[^.]+$", help="the part of an id that is a name")
    args = parser.parse_args()
    references = read_table(args.data / "test/text")
    train = read_table(args.data / "train/text")
    sources = _sources(args.data, "test")
    parts = {key: text.split(f" {SUMMARY_MARK} ", 1) for key, text in sources.items()}
    documents = {key: document for key, (_, document) in parts.items()}
    summaries = [train[key] for key in _sources(args.data, "train")]
    same = args.same or Counter(summaries).most_common(1)[0][0]
    systems = {
        "first sentence of the document": {k: lead_sentence(d) for k, d in documents.items()},
        "first 12 words of the document": {
            key: " ".join(document.split()[:12]) for key, document in documents.items()
        },
        "the document's best sentence, chosen by the reference": _best(references, documents),
        f'the same words for all: "{same}"': dict.fromkeys(references, same),
        "the name's words": {
            key: name_words(re.search(args.name, key).group()) for key in references
        },
        "the whole heading": {key: heading for key, (heading, _) in parts.items()},
        "summary of the training document with the most similar words (TF-IDF)": _nearest(
            args.data, sources, train
        ),
    }
    print("| without a model | ROUGE-1 | ROUGE-2 | ROUGE-L |\n|:---|---:|---:|---:|")
    for name, texts in systems.items():
        mean = mean_of(rouge_of_each(references, texts))
        print(f"| {name} | {mean.rouge_1:.2f} | {mean.rouge_2:.2f} | {mean.rouge_l:.2f} |")


def _sources(data: Path, name: str) -> dict[str, str]:
    """Return the documents with their headings, without those of auxiliary pairs."""
    sources = read_table(data / name / "src_text")
    return {key: source for key, source in sources.items() if f" {SUMMARY_MARK} " in source}


def _best(references: dict[str, str], documents: dict[str, str]) -> dict[str, str]:
    """Return of each document the sentence with the highest ROUGE-L."""
    sentences = {
        f"{key} {number}": (key, sentence)
        for key, document in documents.items()
        for number, sentence in enumerate(split_sentences(document))
    }
    scores = rouge_of_each(
        {place: references[key] for place, (key, _) in sentences.items()},
        {place: sentence for place, (_, sentence) in sentences.items()},
    )
    best: dict[str, tuple[float, str]] = {}
    for place, (key, sentence) in sentences.items():
        best[key] = max(best.get(key, (-1.0, "")), (scores[place].rouge_l, sentence))
    return {key: sentence for key, (_, sentence) in best.items()}


def _nearest(data: Path, test: dict[str, str], summaries: dict[str, str]) -> dict[str, str]:
    train = _sources(data, "train")
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    known = vectorizer.fit_transform(train.values())
    keys, nearest = list(train), {}
    queries = vectorizer.transform(test.values())
    for key, query in zip(test, queries, strict=True):
        nearest[key] = summaries[keys[linear_kernel(query, known).argmax()]]
    return nearest


if __name__ == "__main__":
    main()
