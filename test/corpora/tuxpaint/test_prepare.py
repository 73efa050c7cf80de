import argparse

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.cli import main
from mtla_espnet.corpora.tuxpaint import prepare as tuxpaint
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.rejected import read_rejected
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError

# Stamps by the set that their path falls into.
TRAIN, VALID, TEST = (
    [
        f"animals/birds/bird{i}"
        for i in range(80)
        if tuxpaint.set_of(f"animals/birds/bird{i}") == name
    ]
    for name in tuxpaint.SETS
)


@pytest.fixture
def tree(tmp_path):
    return tmp_path / "tree"


def stamp(tree, name, texts, recordings=("fr", "el"), seconds=1.0):
    """A stamp of Debian's package: texts, and a recording a language ("": English)."""
    path = tree / "usr/share/tuxpaint/stamps" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    english, *others = texts
    path.with_name(f"{path.name}.txt").write_text("\n".join([english, *others]) + "\n", "utf-8")
    for lang in recordings:
        end = f"_{lang}" if lang else ""
        audio = path.with_name(f"{path.name}_desc{end}.ogg")
        samples = 0.1 * np.sin(np.arange(round(44100 * seconds)) * 0.05)
        soundfile.write(audio, np.stack([samples, samples], 1), 44100, format="OGG")
    return path


def options(tree, output, *words):
    parser = argparse.ArgumentParser()
    tuxpaint.add_arguments(parser)
    return parser.parse_args(["--downloads", f"{tree}", "--output", f"{output}", *words])


@pytest.fixture
def corpus(tree):
    """A tree with a stamp or more in each set, in French and Greek."""
    stamp(tree, TRAIN[0], ["A duck.", "el.utf8=Μια πάπια.", "fr.utf8=Un canard."])
    stamp(tree, TRAIN[1], ["The lark!", "fr.utf8=L’alouette — un oiseau !", "el.utf8=Ο κορυδαλλός"])
    stamp(tree, VALID[0], ["A hen.", "el.utf8=Μια κότα.", "fr.utf8=Une poule."])
    stamp(tree, TEST[0], ["An owl.", "el.utf8=Μια κουκουβάγια.", "fr.utf8=Un hibou."])
    return tree


def prepare(tree, output, *words):
    tuxpaint.prepare(options(tree, output, "--lang", "fr el", *words))


def test_sets_texts_and_speakers(corpus, tmp_path):
    for _ in range(2):
        prepare(corpus, tmp_path / "data")
    for name in tuxpaint.SETS:
        validate_data_dir(tmp_path / "data" / name)
        assert not (tmp_path / "data" / name / "rejected.tsv").exists()
    train = tmp_path / "data/train"
    keys = [f"{lang}-{name.replace('/', '.')}" for lang in ("el", "fr") for name in TRAIN[:2]]
    assert read_table(train / "text") == dict(
        zip(
            keys,
            [
                "<el> μια πάπια",
                "<el> ο κορυδαλλός",
                "<fr> un canard",
                "<fr> l'alouette un oiseau",
            ],
            strict=True,
        )
    )
    assert read_table(train / "text.tc.mul")[keys[3]] == "L’alouette — un oiseau !"
    assert read_table(train / "text.lc.rm.mul")[keys[2]] == "un canard"
    assert read_table(train / "text.tc.en")[keys[0]] == "A duck."
    assert read_table(train / "utt2spk")[keys[0]] == "el"
    for path in read_table(train / "wav.scp").values():
        assert soundfile.info(path).samplerate == 44100
    assert list(read_table(tmp_path / "data/test/text").values()) == [
        "<el> μια κουκουβάγια",
        "<fr> un hibou",
    ]
    assert sorted(read_table(tmp_path / "data/lm_text").values()) == sorted(
        read_table(train / "text").values()
    )


def test_a_text_of_test_is_nowhere_else(corpus, tmp_path):
    stamp(corpus, TRAIN[2], ["Some owl.", "fr.utf8=un HIBOU", "el.utf8=άλλο"])
    stamp(corpus, VALID[1], ["An owl", "fr.utf8=Un hibou…", "el.utf8=ένα"])
    stamp(corpus, TRAIN[3], ["An owl!", "fr.utf8=La chouette", "el.utf8=δύο"], recordings=["fr"])
    prepare(corpus, tmp_path / "text")
    sets = {name: read_table(tmp_path / "text" / name / "text") for name in tuxpaint.SETS}
    assert [name for name in sets if "<fr> un hibou" in sets[name].values()] == ["test"]
    assert "<el> άλλο" in sets["train"].values()
    assert "<fr> la chouette" in sets["train"].values()
    assert "<fr> un hibou" not in read_table(tmp_path / "text/lm_text").values()
    prepare(corpus, tmp_path / "english", "--unseen", "translation")
    english = read_table(tmp_path / "english/train/text.lc.rm.en")
    assert "an owl" not in english.values() and "some owl" in english.values()


def test_what_cannot_be_used_is_listed(corpus, tmp_path):
    french = ["fr.utf8=Un pic.", "el.utf8=τρία"]
    stamp(corpus, TRAIN[2], ["A woodpecker.", "fr.utf8=Un pic."])  # no Greek text
    lonely = stamp(corpus, TRAIN[3], ["x", *french], recordings=["fr"])
    lonely.with_name(f"{lonely.name}.txt").unlink()
    misnamed = stamp(corpus, TRAIN[4], ["x", *french], recordings=[])
    source = lonely.with_name(f"{lonely.name}_desc_fr.ogg")
    misnamed.with_name(f"{misnamed.name}_desc_fr.ogg.ogg").write_bytes(source.read_bytes())
    stamp(corpus, TRAIN[5], ["x", f"fr.utf8={'très ' * 20}"], recordings=["fr"], seconds=0.5)
    broken = stamp(corpus, TRAIN[6], ["x", "fr.utf8=Le paon"], recordings=["fr"])
    broken.with_name(f"{broken.name}_desc_fr.ogg").write_bytes(b"OggS")
    latin = stamp(corpus, TRAIN[7], ["x"], recordings=["fr"])
    latin.with_name(f"{latin.name}.txt").write_bytes("x\nfr.utf8=é\n".encode("latin-1"))
    prepare(corpus, tmp_path / "data", "--max_rejected", "60")
    found = {
        each.utterance: each.reason for each in read_rejected(tmp_path / "data/train/rejected.tsv")
    }
    ids = [f"fr-{name.replace('/', '.')}" for name in TRAIN]
    expected = {
        f"el-{TRAIN[2].replace('/', '.')}": "has no text in 'el'",
        ids[3]: ".txt: no such file",
        f"{ids[4]}.ogg": "misnamed",
        ids[5]: "cut off: 0.50 s for 99 characters",
        ids[6]: "cannot be read as audio",
        ids[7]: "not UTF-8 text",
    }
    assert found.keys() == expected.keys()
    assert all(expected[key] in found[key] for key in expected), found
    assert not found.keys() & read_table(tmp_path / "data/train/text").keys()
    with pytest.raises(UserError, match="6 of 11 utterances rejected"):
        prepare(corpus, tmp_path / "data", "--max_rejected", "10")


def test_languages_are_chosen(corpus, tmp_path, monkeypatch, capsys):
    stamp(corpus, TRAIN[2], ["A crane."], recordings=[""])
    command = ["prepare", "tuxpaint", "--downloads", f"{corpus}", "--output", f"{tmp_path}/data"]
    assert main([*command, "--lang", "de"]) == 2
    error = "error: --lang de: no recordings with a text; there are el 4, en 1, fr 4\n"
    assert capsys.readouterr().err.endswith(error)
    assert main(command) == 2
    assert "no language has 300 recordings" in capsys.readouterr().err
    monkeypatch.setattr(tuxpaint, "_FEWEST_RECORDINGS", 4)
    assert main(command) == 0
    assert set(read_table(tmp_path / "data/test/utt2spk").values()) == {"el", "fr"}


def test_a_tree_without_recordings_says_how_to_get_them(tmp_path, capsys):
    command = ["prepare", "tuxpaint", "--downloads", f"{tmp_path}", "--output", f"{tmp_path}/data"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert "--local_data_opts --download" in error and "TUXPAINT" in error
    (tmp_path / "usr/share/tuxpaint/stamps").mkdir(parents=True)
    assert main(command) == 1
    assert "no <stamp>_desc_<language>.ogg" in capsys.readouterr().err


def test_the_package_is_fetched_once(corpus, tmp_path, archive, monkeypatch):
    archive.hold(tree=corpus)
    pinned = tuxpaint.PACKAGE._replace(sha256=archive.sha256)
    monkeypatch.setattr(tuxpaint, "PACKAGE", pinned)
    root = tmp_path / "downloads"
    prepare(root, tmp_path / "data", "--download")
    assert [path.name for path in root.iterdir()] == [pinned.name]
    archive.remove()
    prepare(root, tmp_path / "data")


@settings(deadline=None, max_examples=20, print_blob=True)
@given(prefix=st.text("abcdef/_", max_size=12))
def test_shares_of_the_sets_do_not_depend_on_names(prefix):
    sets = [tuxpaint.set_of(f"{prefix}{i}") for i in range(2000)]
    assert 130 < sets.count("test") < 270 and 50 < sets.count("valid") < 150
