import re
import shutil

import numpy as np
import pytest
import soundfile

from mtla_espnet.cli import main
from mtla_espnet.corpora.shared import flite, synthetic_speech
from mtla_espnet.corpora.wesnoth import games
from mtla_espnet.corpora.wesnoth import prepare as wesnoth
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.rejected import read_rejected
from mtla_espnet.data.kaldi.tables import read_table
from wesnoth_games import write_games

MESSAGES = {
    "httt": {
        "The orcs are here.": "Die Orks sind hier.",
        "Wait for me!": "Wartet auf mich!",
        "female^Wait for me! We ride.": "Wartet auf mich! Wir reiten.",
        "Some big door, left-handed": "Eine große Tür für Linke",
    },
    "ei": {"Wait, for me.": "Warte auf mich."},
    "tb": {"My own brother": "Mein eigener Bruder"},
}
SKY = {
    (0, 1): ("Hello THERE", "Hallo DU", 1.0),
    (1, 1): ("Open the DOOR", "DIE T}R auf", 1.0),
    (1, 2): ("Said too fast for any people at all", "Zu schnell", 0.2),
    (1, 3): ("Open the door!", "Mach auf", 1.0),
    (5, 2): ("Wait for me", "Wart auf mich", 1.0),
}
DRASCULA = {"4": ("WHAT A DOOR", "WAS FueR EINE TueR"), "D1": ("HELLO THERE", "Hallo")}


class Hum:
    """Stands in for flite."""

    rate_hz = 16000
    word_starts = {}

    def __init__(self, tree, voice):
        assert (tree / "usr").is_dir() and voice in ("rms", "slt")

    def speak(self, text, words_per_minute, pitch):
        return (1000 * np.sin(np.arange(800 * len(text)) * 0.1)).astype(np.int16)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """The games, a tree of flite, and few voices."""
    voices = {
        "train": ["en-us+m1", "flite+rms"],
        "valid": ["en-us+m5"],
        "test_voices": ["flite+slt", "en-us+m7"],
    }
    monkeypatch.setattr(wesnoth, "VOICES", voices)
    monkeypatch.setattr(synthetic_speech, "Flite", Hum)
    write_games(tmp_path / "raw", MESSAGES, SKY, DRASCULA)
    libraries = tmp_path / "raw/libflite1" / flite._LIBRARIES
    libraries.mkdir(parents=True)
    (libraries / "libflite.so.1").touch()
    return tmp_path / "raw"


def prepare(root, output, *words):
    return main(
        ["prepare", "wesnoth", "--downloads", f"{root}", "--output", f"{output}", "--nj", "1",
         "--max_rejected", "60", *words]
    )  # fmt: skip


def texts(directory, table):
    return {name: read_table(directory / name / table) for name in wesnoth.SETS}


def test_campaigns_sections_voices_and_texts_are_held_out(raw, tmp_path):
    for _ in range(2):
        assert prepare(raw, tmp_path / "data") == 0
    # "wait for me" is held out from training, and "hello there" from validation
    assert texts(tmp_path / "data", "text") == {
        "train": {
            "flite_rms-00000": "the orcs are here",
            "steel_sky_1-00601": "open the door",
            "steel_sky_1-00603": "open the door",
            "us_m1-00000": "some big door left handed",
            "us_m1-00001": "we ride",
        },
        "valid": {"us_m5-00000": "my own brother"},
        "test_voices": {"flite_slt-00000": "wait for me"},
        "test_steel_sky": {"steel_sky_5-04532": "wait for me"},
        "test_drascula": {"drascula_D-D1": "hello there", "drascula_HERO-4": "what a door"},
    }
    german = texts(tmp_path / "data", "text.tc.de")
    assert german["train"]["us_m1-00001"] == "Wir reiten."
    assert german["train"]["steel_sky_1-00601"] == "Die Tür auf"
    assert german["test_drascula"]["drascula_HERO-4"] == "Was für Eine Tür"
    for name in wesnoth.SETS:
        directory = tmp_path / "data" / name
        validate_data_dir(directory)
        ids = read_table(directory / "text").keys()
        tables = sorted(path.name for path in directory.glob("text*"))
        assert tables == "text text.lc.de text.lc.rm.de text.lc.rm.en text.tc.de text.tc.en".split()
        assert all(read_table(directory / table).keys() == ids for table in tables)
        for path in read_table(directory / "wav.scp").values():
            assert soundfile.info(path).samplerate in (11025, 16000)
    (rejected,) = read_rejected(tmp_path / "data/train/rejected.tsv")
    assert rejected.utterance == "steel_sky_1-00602"
    assert rejected.reason == "cut off: 0.20 s for 35 characters of text"


def test_what_was_read_is_kept(raw, tmp_path):
    assert prepare(raw, tmp_path / "data") == 0
    before = {name: (tmp_path / f"data/{name}/text").read_bytes() for name in wesnoth.SETS}
    shutil.rmtree(raw / "usr")
    # Recordings may be smaller ones by now.
    for path in list((tmp_path / "data/raw").glob("*/audio/*.flac")):
        samples, rate_hz = soundfile.read(path)
        assert rate_hz == 11025
        small = path.with_suffix(".opus")
        soundfile.write(small, np.repeat(samples, 4), 48000, format="OGG", subtype="OPUS")
        path.unlink()
    assert prepare(raw, tmp_path / "data") == 0
    assert before == {name: (tmp_path / f"data/{name}/text").read_bytes() for name in before}
    scp = read_table(tmp_path / "data/test_drascula/wav.scp")
    assert scp["drascula_HERO-4"].endswith("data/raw/drascula/audio/4.opus")


def test_fewer_sentences_and_engines(raw, tmp_path):
    shutil.rmtree(raw / "libflite1")
    assert prepare(raw, tmp_path / "data", "--engines", "espeak", "--train_sentences", "2") == 0
    text = texts(tmp_path / "data", "text")
    assert text["train"].keys() == {
        "steel_sky_1-00601", "steel_sky_1-00603", "us_m1-00000", "us_m1-00001",
    }  # fmt: skip
    assert text["test_voices"] == {"us_m7-00000": "wait for me"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--engines", "festival"], 2, "--engines are of espeak, flite, not 'festival'"),
        (["--train_sentences", "-1"], 2, "--train_sentences must be at least 0, not -1"),
        (["--downloads", "gone"], 1, "gone: has no usr/share/games/wesnoth/1.16/locale/de/"),
    ],
)
def test_bad_arguments_are_one_line(raw, tmp_path, capsys, words, code, message):
    assert prepare(raw, tmp_path / "data", *words) == code
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_another_version_is_named(raw, tmp_path, capsys):
    versions = raw / "usr/share/games/wesnoth"
    (versions / "1.16").rename(versions / "1.18")
    assert prepare(raw, tmp_path / "data", "--download") == 1
    error = capsys.readouterr().err
    assert re.search(r"has no usr/\S+help.mo \(Wesnoth is there in version 1.18\): fetch", error)


def test_packages_are_fetched_where_no_game_is(tmp_path, monkeypatch):
    def unpack(packages, tree):
        assert packages == games.PACKAGES
        write_games(tree, MESSAGES, SKY, DRASCULA)

    monkeypatch.setattr(games, "unpack_packages", unpack)
    made = games.find_tree(tmp_path, download=True)
    assert games.find_tree(tmp_path, download=False) == made == tmp_path / "games"
    assert games.find_tree(made, download=False) == made
