"""Experiment directories made by hand."""

import json

import pytest

from mtla_espnet.score.result import AlignedSentence, format_result

SET = "decode_asr_asr_model_valid.acc.ave/test"


class Experiments:
    """Makes experiments of a recipe in `directory/exp`."""

    def __init__(self, directory):
        self.directory = directory

    def add(self, tag, kind, correct=8, wrong=2, name=SET, **cost):
        """Add an experiment that got `wrong` of `correct + wrong` words wrong."""
        experiment = self.directory / "exp" / tag
        (experiment / name).mkdir(parents=True)
        training = {
            "parameters": 1_234_567,
            "epochs": 9,
            "updates": 900,
            "train_s": 321.4,
            "device": "cpu",
            "threads": 2,
        }
        (experiment / "training.json").write_text(json.dumps(training))
        efficiency = {
            "utterances": 2,
            "audio_s": 20.0,
            "tokens": 50,
            "encoder_s": 1.0,
            "search_s": 4.0,
            "search_decoder_s": 2.5,
            "search_ctc_s": 1.0,
            "search_bookkeeping_s": 0.5,
            "total_s": 6.0,
            "rtf": 0.3,
            "utterances_per_s": 0.333333,
            "peak_memory_bytes": 50_000_000,
            "cache_bytes_peak": 2_000_000,
            "cache_bytes_allocated": 3_000_000,
            "cache_bytes_per_position": 2304.0,
            "device": "cpu",
            "dtype": "float32",
            "attention": kind,
            "down_rate": 1,
            "beam_size": 5,
            "batch": 8,
        }
        (experiment / name / "efficiency.json").write_text(json.dumps(efficiency | cost))
        self.score(tag, "wer", "C" * correct + "S" * wrong, name)
        self.score(tag, "cer", "C" * 30 + "D" * wrong, name)
        return experiment

    def score(self, tag, rate, steps, name=SET):
        """Write a result of one sentence."""
        directory = self.directory / "exp" / tag / name / f"score_{rate}"
        directory.mkdir()
        words = ["w"] * len(steps)
        sentence = AlignedSentence("s-1", words, words, steps)
        (directory / "result.txt").write_text(format_result("hyp.trn", {"s": [sentence]}))


@pytest.fixture
def experiments(tmp_path):
    return Experiments(tmp_path)
