"""How well a trained smarthome model tells when words begin, against what eSpeak says.

    python bench/word_times.py egs2/smarthome/asr1/exp/asr_train_asr_raw_en_bpe100_mha [SET [N]]

The set (test; or valid), or the first N utterances of each of its speakers, is spoken again, the
same to the byte, with the times at which eSpeak begins its words.
The true words are aligned with each utterance. The end of a word is compared with the beginning of
the next one, or, of the last word, left out: eSpeak tells no ends.
"""

import sys
from pathlib import Path

import numpy as np

from mtla_espnet.corpora.shared.synthetic_speech import RATE_HZ, spoken
from mtla_espnet.corpora.smarthome.grammar import read_sentences
from mtla_espnet.corpora.smarthome.synthesis import plan_corpus
from mtla_espnet.files import UserError
from mtla_espnet.inference.from_files import load
from mtla_espnet.inference.times import check_times, posteriors, times_of
from mtla_espnet.inference.tokenizer import token_ids
from mtla_espnet.jobs.parallel import run_jobs

SIZES = {"train": 3200, "valid": 200, "test": 600}  # as the recipe's


def main(experiment: Path, set_: str = "test", most: int | None = None) -> None:
    plans = plan_corpus(read_sentences(), SIZES, seed=0)[set_]
    speakers = run_jobs(lambda plan: list(spoken(plan)), plans, 2, fresh=True)
    texts = {id_: each.text for plan in plans for id_, each in plan.sentences.items()}
    model = load("asr", experiment, device="cpu")
    check_times(model, experiment)
    start_errors, end_errors, confidence = [], [], []
    for id_, samples, starts_s in (each for speaker in speakers for each in speaker[:most]):
        heard = posteriors(model, id_, samples, 0.0, len(samples) / RATE_HZ)
        ids = token_ids(model.tokenizer, model.model.token_list, texts[id_])
        try:
            words = times_of(model, heard, ids, "word")
        except UserError as error:
            print(f"{id_}: left out: {error}")
            continue
        places = np.cumsum([0, *(len(word.text) + 1 for word in words)])[:-1].tolist()
        for place, word, after in zip(places, words, [*places[1:], None], strict=True):
            confidence.append(word.confidence)
            if place in starts_s:
                start_errors.append(word.start_s - starts_s[place])
            if after in starts_s:
                end_errors.append(word.end_s - starts_s[after])
    print(f"{set_}: {len(confidence)} words")
    for name, errors in (("start", start_errors), ("end", end_errors)):
        ms = 1000 * np.array(errors)
        print(
            f"{name}: {len(ms)} words; median of |error| {np.median(abs(ms)):.0f} ms, "
            f"90 % below {np.quantile(abs(ms), 0.9):.0f} ms; median error {np.median(ms):+.0f} ms"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3], *map(int, sys.argv[3:4]))
