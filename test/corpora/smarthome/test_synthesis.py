import json
from collections import Counter

import numpy as np
import pytest
import soundfile

from mtla_espnet.corpora.shared import synthetic_speech
from mtla_espnet.corpora.smarthome import synthesis
from mtla_espnet.corpora.smarthome.grammar import read_sentences
from mtla_espnet.corpora.smarthome.synthesis import VOICES, plan_corpus, synthesise
from mtla_espnet.directories import scratch_directory

DEFAULT = {"train": 3200, "valid": 200, "test": 600}
# Two speakers with three sentences each, two with one.
TINY = {"train": 6, "valid": 1, "test": 1}


@pytest.fixture
def few_voices(monkeypatch):
    voices = {split: names[:1] for split, names in VOICES.items()} | {"train": VOICES["train"][:2]}
    monkeypatch.setattr(synthesis, "VOICES", voices)


def content(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_sets_share_neither_sentences_nor_speakers(seed):
    plans = plan_corpus(read_sentences(), DEFAULT, seed)
    texts, speakers = {}, {}
    for split, split_plans in plans.items():
        said = [sentence for plan in split_plans for sentence in plan.sentences.values()]
        assert len(said) == DEFAULT[split]
        assert {sentence.intent for sentence in said} == {s.intent for s in read_sentences()}
        texts[split] = {sentence.text for sentence in said}
        speakers[split] = {plan.speaker for plan in split_plans}
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not texts[one] & texts[other]
        assert not speakers[one] & speakers[other]
    assert [len(speakers[split]) for split in DEFAULT] == [22, 3, 6]
    assert len(texts["train"]) >= 1300
    known = {word for text in texts["train"] for word in text.split()}
    assert {word for text in texts["test"] | texts["valid"] for word in text.split()} <= known


def test_speakers_and_sentences_take_turns():
    plans = plan_corpus(read_sentences(), DEFAULT, 0)["train"]
    assert {len(plan.sentences) for plan in plans} == {145, 146}
    counts = Counter(s.text for plan in plans for s in plan.sentences.values())
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_seed_and_nothing_else_chooses():
    first, again, other = (plan_corpus(read_sentences(), DEFAULT, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_ids_sort_by_speaker():
    plans = plan_corpus(read_sentences(), DEFAULT, 0)
    for split_plans in plans.values():
        ids = [id_ for plan in split_plans for id_ in plan.sentences]
        assert ids == sorted(ids)


def test_the_same_seed_gives_the_same_bytes(tmp_path, few_voices):
    synthesise(tmp_path / "one", TINY, 3, 1, read_sentences())
    synthesise(tmp_path / "two", TINY, 3, 2, read_sentences())
    assert content(tmp_path / "one") == content(tmp_path / "two")
    synthesise(tmp_path / "other", TINY, 4, 2, read_sentences())
    assert content(tmp_path / "one").keys() == content(tmp_path / "other").keys()
    wav = "wav/us_m1/us_m1-00000.wav"
    assert content(tmp_path / "one")[wav] != content(tmp_path / "other")[wav]


def test_the_raw_layout(tmp_path, few_voices):
    synthesise(tmp_path, TINY, 0, 1, read_sentences())
    lines = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["id"] for record in records] == [
        f"us_{variant}-{n:05d}" for variant in ("f1", "m1") for n in range(3)
    ]
    by_text = {sentence.text: sentence for sentence in read_sentences()}
    for record in records:
        sentence = by_text[record["text"]]
        assert record["wav"] == f"wav/{record['speaker']}/{record['id']}.wav"
        assert (record["intent"], record["slots"]) == (sentence.intent, sentence.slots)
        assert record["german"] == sentence.german
        samples, rate_hz = soundfile.read(tmp_path / record["wav"])
        info = soundfile.info(tmp_path / record["wav"])
        assert (rate_hz, info.subtype, info.channels) == (16000, "PCM_16", 1)
        assert record["duration"] == pytest.approx(len(samples) / 16000, abs=1e-4)
        assert 0.5 < record["duration"] < 6
        assert 0.1 < np.abs(samples).max() < 0.95
        # Noise is there from the first to the last sample, and far below the speech.
        edge = np.std(samples[:400])
        assert 0 < edge < np.std(samples) / 3


def test_a_finished_speaker_is_not_made_again(tmp_path, few_voices):
    synthesise(tmp_path, TINY, 0, 1, read_sentences())
    before = content(tmp_path)
    kept = tmp_path / "wav/us_m1/us_m1-00000.wav"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "wav/us_f1/.done").unlink()  # as if another plan had made it
    (tmp_path / "wav/us_f1/us_f1-00000.wav").write_bytes(b"")
    (tmp_path / "wav/us_f1/left_over.wav").write_bytes(b"")
    synthesise(tmp_path, TINY, 0, 1, read_sentences())
    assert content(tmp_path) == before
    assert kept.stat().st_mtime_ns == stamp


def test_a_speaker_that_lost_a_recording_is_made_again(tmp_path, few_voices):
    synthesise(tmp_path, TINY, 0, 1, read_sentences())
    before = content(tmp_path)
    (tmp_path / "wav/us_f1/us_f1-00001.wav").unlink()
    (tmp_path / "wav/us_m1/us_m1-00002.wav").write_bytes(b"")  # what a power cut may leave
    synthesise(tmp_path, TINY, 0, 1, read_sentences())
    assert content(tmp_path) == before


def test_what_a_killed_run_left_goes(tmp_path, few_voices):
    synthesise(tmp_path, TINY, 0, 1, read_sentences())
    before = content(tmp_path)
    killed = scratch_directory(tmp_path / "wav")
    (killed.__enter__() / "a.wav").write_bytes(b"half")
    (tmp_path / ".train.tmp0123abcd.jsonl").write_text("half")
    synthesise(tmp_path, TINY, 0, 1, read_sentences())
    assert content(tmp_path) == before


def test_an_interrupted_speaker_leaves_nothing(tmp_path, few_voices, monkeypatch):
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise RuntimeError("interrupted")
        return np.zeros(100, np.int16), {}

    monkeypatch.setattr(synthetic_speech, "_utterance", interrupted)
    with pytest.raises(RuntimeError, match="interrupted"):
        synthesise(tmp_path, TINY, 0, 1, read_sentences())
    assert list((tmp_path / "wav").iterdir()) == []
    assert not (tmp_path / "train.jsonl").exists()
