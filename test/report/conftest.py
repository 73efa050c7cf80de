"""Experiment directories made by hand."""

import dataclasses
import json

import pytest
import yaml

from mtla_espnet.json_files import write_json
from mtla_espnet.score.intent import count_intents
from mtla_espnet.score.result import AlignedSentence, format_result
from mtla_espnet.score.rouge import Rouge, SummaryScores

SET = "decode_asr_asr_model_valid.acc.ave/test"


class Experiments:
    """Makes experiments of a recipe in `directory/exp`."""

    def __init__(self, directory):
        self.directory = directory

    def add(self, tag, kind, correct=8, wrong=2, name=SET, **cost):
        """Add an experiment that got `wrong` of `correct + wrong` words wrong.

        Those of one kind of configuration differ in their attention alone.
        """
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
        self.configure(tag, kind)
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
            "cache_bytes_prefix_peak": 1_000_000,
            "cache_bytes_allocated": 3_000_000,
            "cache_bytes_per_position": 2304.0,
            "device": "cpu",
            "dtype": "float32",
            "attention": kind,
            "down_rate": 1,
            "prefix_cache": "auto",
            "beam_size": 5,
            "batch": 8,
        }
        (experiment / name / "efficiency.json").write_text(json.dumps(efficiency | cost))
        self.score(tag, "wer", "C" * correct + "S" * wrong, name)
        self.score(tag, "cer", "C" * 30 + "D" * wrong, name)
        return experiment

    def configure(self, tag, kind, **decoder_conf):
        """Write the configuration that an experiment was trained by."""
        decoder = {"attention": kind, "attention_conf": {"down_rate": 2}, "num_blocks": 2}
        config = {
            "config": f"conf/train_{kind}.yaml",
            "seed": len(tag),
            "output_dir": f"exp/{tag}",
            "dist_rank": 0,
            "max_epoch": 10,
            "token_list": ["<blank>", "a"],
            "decoder": "decoder_only",
            "decoder_conf": decoder | decoder_conf,
        }
        (self.directory / "exp" / tag / "config.yaml").write_text(yaml.safe_dump(config))

    def score(self, tag, rate, steps, name=SET):
        """Write a result of one sentence."""
        directory = self.directory / "exp" / tag / name / f"score_{rate}"
        directory.mkdir()
        words = ["w"] * len(steps)
        sentence = AlignedSentence("s-1", words, words, steps)
        (directory / "result.txt").write_text(format_result("hyp.trn", {"s": [sentence]}))

    def score_translation(self, tag, wrong, name=SET):
        """Write a result of BLEU 40 - `wrong`."""
        directory = self.directory / "exp" / tag / name / "score_bleu"
        directory.mkdir()
        scores = [
            {"name": metric, "score": score, "verbose_score": "a/b", "signature": "nrefs:1|case:x"}
            for metric, score in (("BLEU", 40.0 - wrong), ("chrF2", 50.0 - wrong), ("TER", wrong))
        ]
        for case in ("tc", "lc"):
            (directory / f"result.{case}.txt").write_text("title\n" + json.dumps(scores))

    def score_intents(self, tag, wrong, name=SET):
        """Write a result of ten intents of one scenario, and of their words."""
        directory = self.directory / "exp" / tag / name
        found = ["a_x"] * (10 - wrong) + ["a_y"] * wrong
        scores = count_intents(["a_x"] * 10, found)
        write_json(directory / "score_intent/result.json", dataclasses.asdict(scores))
        words = ["w"] * 10
        sentence = AlignedSentence("s-1", words, words, "C" * (10 - wrong) + "S" * wrong)
        text = format_result("hyp_asr.trn", {"s": [sentence]})
        (directory / "score_wer/result_asr.txt").write_text(text)

    def score_summaries(self, tag, wrong, name=SET, normalisation="rouge"):
        """Write a result of ROUGE-L 30 - `wrong`."""
        model, lead = Rouge(40.0 - wrong, 20.0 - wrong, 30.0 - wrong), Rouge(21.0, 9.0, 15.0)
        scores = SummaryScores(2, normalisation, model, lead)
        path = self.directory / "exp" / tag / name / "score_rouge/result.json"
        write_json(path, dataclasses.asdict(scores))


@pytest.fixture
def experiments(tmp_path):
    return Experiments(tmp_path)
