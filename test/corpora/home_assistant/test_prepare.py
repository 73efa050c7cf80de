import numpy as np
import pytest
import soundfile

from mtla_espnet.cli import main
from mtla_espnet.corpora.home_assistant import prepare as home_assistant
from mtla_espnet.corpora.home_assistant.sentences import SpokenCommand
from mtla_espnet.corpora.shared import flite, synthetic_speech
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.tables import read_table
from raw_corpora import write_templates

SIZES = {"train": 12, "valid": 2, "test_voices": 4, "test_engine": 2}


class Hum:
    """Stands in for flite."""

    rate_hz = 16000
    word_starts = {}

    def __init__(self, tree, voice):
        assert (tree / "usr").is_dir() and voice == "slt"

    def speak(self, text, words_per_minute, pitch):
        return (1000 * np.sin(np.arange(800 * len(text)) * 0.1)).astype(np.int16)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Templates, few voices, and a tree of flite."""
    voices = {
        name: {language: own[:1] for language, own in of_set.items()}
        for name, of_set in home_assistant.VOICES.items()
    }
    monkeypatch.setattr(home_assistant, "VOICES", voices)
    monkeypatch.setattr(synthetic_speech, "Flite", Hum)
    write_templates(tmp_path / "raw")
    libraries = tmp_path / "raw/libflite1" / flite._LIBRARIES
    libraries.mkdir(parents=True)
    (libraries / "libflite.so.1").touch()
    return tmp_path / "raw"


def prepare(root, output, *words):
    sizes = [word for name, size in SIZES.items() for word in (f"--{name}_utterances", str(size))]
    return main(
        ["prepare", "home_assistant", "--downloads", f"{root}", "--output", f"{output}",
         "--nj", "1", *sizes, *words]
    )  # fmt: skip


def test_sets_share_neither_sentences_nor_voices(raw, tmp_path):
    for _ in range(2):
        assert prepare(raw, tmp_path / "data") == 0
    texts, speakers = {}, {}
    for name, size in SIZES.items():
        directory = tmp_path / "data" / name
        validate_data_dir(directory)
        text, transcript, languages = (
            read_table(directory / table) for table in ("text", "transcript", "utt2lang")
        )
        assert len(text) == size and text.keys() == languages.keys()
        for key, marked in text.items():
            words = [word for word in marked.split()[1:] if not word.startswith("<")]
            assert words == transcript[key].split()
        texts[name] = set(transcript.values())
        speakers[name] = set(read_table(directory / "utt2spk").values())
        for path in read_table(directory / "wav.scp").values():
            assert soundfile.info(path).samplerate == 16000
        expected = {"en"} if name == "test_engine" else {"en", "de"}
        assert set(languages.values()) == expected
    assert speakers["train"] == {"us_m1", "de_m1"} and speakers["test_engine"] == {"flite_slt"}
    assert not texts["train"] & (texts["valid"] | texts["test_voices"] | texts["test_engine"])
    assert not texts["valid"] & texts["test_voices"]
    assert texts["test_engine"] <= texts["test_voices"]
    assert not speakers["train"] & speakers["test_voices"]


def test_held_out_words_are_known():
    sentences = [SpokenCommand("A", f"say word{number}", "") for number in range(50)]
    sentences += [SpokenCommand("B", f"word{number} again", "") for number in range(50)]
    pools = home_assistant.split_sentences(sentences, 0)
    known = {word for each in pools["train"] for word in each.text.split()}
    assert len(pools["test"]) + len(pools["valid"]) >= 10
    for name in ("valid", "test"):
        assert all(known.issuperset(each.text.split()) for each in pools[name])
    assert sorted(each for pool in pools.values() for each in pool) == sorted(sentences)


def test_a_set_can_be_left_out(raw, tmp_path):
    (raw / "libflite1" / flite._LIBRARIES / "libflite.so.1").unlink()
    assert prepare(raw, tmp_path / "data", "--test_engine_utterances", "0") == 0
    assert not (tmp_path / "data/test_engine").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--train_utterances", "1"], 2, "--train_utterances must be at least 2, not 1"),
        (["--test_engine_utterances", "-1"], 2, "--test_engine_utterances must be at least 0"),
        (["--max_sentences", "0"], 2, "--max_sentences must be at least 1, not 0"),
        (["--max_sentences", "1"], 1, "valid: no sentence in 'en' is left for it"),
        (["--downloads", "gone"], 1, "gone: has no en.json and de.json: fetch them by"),
    ],
)
def test_bad_arguments_are_one_line(raw, tmp_path, capsys, words, code, message):
    assert prepare(raw, tmp_path / "data", *words) == code
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1]


def test_flite_is_asked_for(raw, tmp_path, capsys):
    (raw / "libflite1" / flite._LIBRARIES / "libflite.so.1").unlink()
    assert prepare(raw, tmp_path / "data") == 1
    assert "libflite1: is not there: fetch it by --local_data_opts" in capsys.readouterr().err


def test_the_wheel_is_unpacked_where_nothing_is_there(tmp_path, monkeypatch):
    def unpack(wheel, tree):
        assert wheel == home_assistant.WHEEL
        write_templates(tree / home_assistant._IN_WHEEL)

    monkeypatch.setattr(home_assistant, "unpack_wheel", unpack)
    made = home_assistant.find_templates(tmp_path, download=True)
    assert home_assistant.find_templates(tmp_path, download=False) == made
    assert home_assistant.find_templates(tmp_path / "home-assistant-intents", False) == made
    assert home_assistant.find_templates(made, False) == made
