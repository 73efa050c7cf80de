"""Where long recordings are best cut: word error rates of a smarthome model on joined utterances.

    python bench/cut_recordings.py egs2/smarthome/asr1/exp/asr_train_asr_raw_en_bpe100_mha [SECONDS]

Eight test utterances of a speaker in a row make a recording, with pauses of 0.3 to 1.5 s in which
there is faint noise; two recordings a speaker. They are cut in each way, into pieces of at most
SECONDS (6), and all pieces are decoded greedily.
"""

import sys
import tempfile
from pathlib import Path

import jiwer
import numpy as np
import soundfile

from mtla_espnet.corpora.shared.synthetic_speech import RATE_HZ, spoken
from mtla_espnet.corpora.smarthome.grammar import read_sentences
from mtla_espnet.corpora.smarthome.synthesis import plan_corpus
from mtla_espnet.inference.from_files import decode_recordings
from mtla_espnet.jobs.parallel import run_jobs

SIZES = {"train": 3200, "valid": 200, "test": 600}  # as the recipe's
JOINED, RECORDINGS = 8, 2
PAUSE_S, NOISE = (0.3, 1.5), 1e-3


def main(experiment: Path, longest_s: float = 6.0) -> None:
    plans = plan_corpus(read_sentences(), SIZES, seed=0)["test"]
    speakers = run_jobs(lambda plan: list(spoken(plan)), plans, 2, fresh=True)
    texts = {id_: each.text for plan in plans for id_, each in plan.sentences.items()}
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as directory:
        expected = {}
        for number, speaker in enumerate(speakers):
            for part in range(RECORDINGS):
                own = speaker[part * JOINED : (part + 1) * JOINED]
                waves = []
                for _, samples, _ in own:
                    pause = round(random.uniform(*PAUSE_S) * RATE_HZ)
                    waves += [random.normal(0, NOISE, pause), samples / 32768]
                path = Path(directory) / f"{number}_{part}.wav"
                soundfile.write(path, np.concatenate(waves), RATE_HZ)
                expected[path] = " ".join(texts[id_] for id_, *_ in own)
        for rule in ("silence", "length", "vad"):
            found = dict.fromkeys(expected, "")
            given = {"cut_at": rule, "longest_s": longest_s, "options": {"beam_size": 1}}
            pieces = list(decode_recordings("asr", experiment, list(expected), **given))
            for piece in pieces:
                found[piece.path] += f" {piece.text}"
            rate = jiwer.wer(list(expected.values()), [text.strip() for text in found.values()])
            print(f"{rule}: {len(pieces)} pieces, WER {100 * rate:.1f} %", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:3]))
