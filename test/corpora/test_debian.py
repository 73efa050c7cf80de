import gzip
import hashlib
import logging
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.cli import main
from mtla_espnet.corpora import debian
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.rejected import read_rejected
from mtla_espnet.data.kaldi.tables import read_table
from raw_corpora import write_debian_indices

# Sources by the set that their name falls into.
TRAIN, VALID, TEST = (
    [name for letter in "abcdefghijklmnopqrstuvwxyz" for end in "aeiouy"
     if debian.set_of(name := f"lib{letter}{end}") == which]
    for which in debian.SETS
)  # fmt: skip


def long_text(word, count=30):
    return " ".join(f"{word}{number}" for number in range(count))


PACKAGES = [
    (f"{TRAIN[0]}-dev", f"{TRAIN[0]} (1.2-3)", "some files to develop", long_text("dev")),
    (TRAIN[0], TRAIN[0], "a library to train", long_text("run")),
    (VALID[0], VALID[0], "a library to validate", long_text("valid")),
    (TEST[0], TEST[0], "a library to test", long_text("test", 130)),
]


def prepare(root, output, *words):
    return main(
        ["prepare", "debian", "--downloads", f"{root}", "--output", f"{output}",
         "--auxiliary_share", "0", *words]
    )  # fmt: skip


def test_data_directories(tmp_path):
    write_debian_indices(tmp_path / "raw", PACKAGES)
    for _ in range(2):
        assert prepare(tmp_path / "raw", tmp_path / "data") == 0
    for name in debian.SETS:
        validate_data_dir(tmp_path / "data" / name, audio=False)
        assert not (tmp_path / "data" / name / "rejected.tsv").exists()
    train = tmp_path / "data/train"
    keys = [f"{TRAIN[0]}-{TRAIN[0]}", f"{TRAIN[0]}-{TRAIN[0]}-dev"]
    assert read_table(train / "text") == {
        keys[0]: "a library to train",
        keys[1]: "some files to develop",
    }
    assert read_table(train / "utt2spk") == dict.fromkeys(keys, TRAIN[0])
    (heading, document) = read_table(train / "src_text")[keys[1]].split(" [summary] ")
    assert heading == f"{TRAIN[0]} dev in libs"
    assert document.replace(" ", "") == long_text("dev").replace(" ", "")
    (source,) = read_table(tmp_path / "data/test/src_text").values()
    assert len(source.split(" [summary] ")[1].split()) == 120


def test_what_is_short_doubled_or_of_another_version_is_left_out(tmp_path):
    same = long_text("x", 60)
    packages = [
        *PACKAGES,
        ("short-summary", "short-summary", "two words", long_text("a")),
        ("short-document", "short-document", "a summary of three", long_text("b", 29)),
        ("first", TRAIN[0], "the first of two", f"{same} here"),
        ("second", TEST[0], "the second of two", f"{same} there"),
    ]
    write_debian_indices(tmp_path / "raw", packages)
    other = f"Package: {TEST[0]}\nDescription-md5: 0\nDescription-en: other words of it\n a b\n"
    for name in ("old", "first"):
        other += f"\nPackage: {name}\nDescription-md5: 1\nDescription-en: a b c\n {same}\n"
    path = tmp_path / "raw/Translation-en"
    path.write_text(f"{other}\n{path.read_text()}")
    assert prepare(tmp_path / "raw", tmp_path / "data") == 0
    found = {
        summary
        for name in debian.SETS
        for summary in read_table(tmp_path / "data" / name / "text").values()
    }
    assert found == {summary for _, _, summary, _ in PACKAGES} | {"the first of two"}


def test_a_description_with_a_character_of_no_text_is_listed(tmp_path):
    odd = ("odd", TEST[0], "an odd description", long_text("o\xad"))
    write_debian_indices(tmp_path / "raw", [*PACKAGES, odd])
    assert prepare(tmp_path / "raw", tmp_path / "data", "--max_rejected", "60") == 0
    (rejection,) = read_rejected(tmp_path / "data/test/rejected.tsv")
    assert (rejection.utterance, rejection.line) == ("odd", 29)
    assert prepare(tmp_path / "raw", tmp_path / "data") == 1


def test_training_has_pairs_that_teach_to_copy(tmp_path):
    text = "It does this for you. " + long_text("Word") + ". It does that for you."
    package = (TRAIN[1], TRAIN[1], "a library to copy", text)
    write_debian_indices(tmp_path / "raw", [*PACKAGES, package])
    assert prepare(tmp_path / "raw", tmp_path / "data", "--auxiliary_share", "1") == 0
    key = f"{TRAIN[1]}-{TRAIN[1]}"
    summaries = read_table(tmp_path / "data/train/text")
    assert {summaries[key], summaries[f"{key}~first"]} == {package[2], "It does this for you."}
    assert "~" not in "".join(read_table(tmp_path / "data/test/text"))


@pytest.mark.parametrize(("ending", "module"), [(".xz", lzma), (".gz", gzip)])
def test_indices_may_be_compressed(tmp_path, ending, module, caplog):
    write_debian_indices(tmp_path / "plain", PACKAGES)
    (tmp_path / "raw").mkdir()
    for path in (tmp_path / "plain").iterdir():
        (tmp_path / f"raw/{path.name}{ending}").write_bytes(module.compress(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert prepare(tmp_path / "raw", tmp_path / "data") == 0
    assert prepare(tmp_path / "plain", tmp_path / "plain_data") == 0
    for name in debian.SETS:
        for table in ("text", "src_text"):
            made = [tmp_path / data / name / table for data in ("data", "plain_data")]
            assert made[0].read_bytes() == made[1].read_bytes()
    assert f"raw/Packages{ending} is not that of Debian 12.15 (bookworm)" in caplog.text
    (tmp_path / f"raw/Packages{ending}").write_bytes(module.compress(b"x" * 999)[:20])
    assert prepare(tmp_path / "raw", tmp_path / "data") == 1


def test_the_indices_are_fetched_once(tmp_path, archive, monkeypatch, caplog):
    write_debian_indices(tmp_path / "plain", PACKAGES)
    (tmp_path / "lists").mkdir()
    ends = {"Packages": "binary-amd64_Packages", "Translation-en": "i18n_Translation-en"}
    for name, end in ends.items():
        content = (tmp_path / "plain" / name).read_bytes()
        (tmp_path / f"lists/host_debian_dists_bookworm_main_{end}").write_bytes(content)
        monkeypatch.setitem(debian.PINNED, name, hashlib.sha256(content).hexdigest())
    archive.hold(indices=tmp_path / "lists")
    with caplog.at_level(logging.WARNING):
        assert prepare(tmp_path / "downloads", tmp_path / "data", "--download") == 0
        archive.remove()
        assert prepare(tmp_path / "downloads", tmp_path / "data", "--download") == 0
        assert prepare(tmp_path / "downloads", tmp_path / "data") == 0
    assert "Debian 12.15" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--max_document_words", "0"], 2, "error: --max_document_words must be at least 1, not 0"),
        (["--auxiliary_share", "2"], 2, "error: --auxiliary_share must be 0 to 1, not 2.0"),
        ([], 1, "has no Packages: fetch the indices by --local_data_opts --download"),
    ],
)
def test_mistakes(tmp_path, capsys, arguments, code, message):
    assert prepare(tmp_path, tmp_path / "data", *arguments) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_bad_indices(tmp_path, capsys):
    write_debian_indices(tmp_path, PACKAGES)
    packages = tmp_path / "Packages"
    good = packages.read_bytes()
    packages.write_bytes(b"no field\n")
    assert prepare(tmp_path, tmp_path / "data") == 1
    assert f"{packages}:1: not a line 'Field: value'" in capsys.readouterr().err
    packages.write_bytes(b"Package: a\nX: \xff\n")
    assert prepare(tmp_path, tmp_path / "data") == 1
    assert f"{packages}:2: not UTF-8 text" in capsys.readouterr().err
    packages.write_bytes(good)
    (tmp_path / "Translation-en").unlink()
    assert prepare(tmp_path, tmp_path / "data") == 1
    assert "Translation-en: no such file, nor with .xz" in capsys.readouterr().err
    write_debian_indices(tmp_path, PACKAGES[:2])
    assert prepare(tmp_path, tmp_path / "data") == 1
    assert "data/test: no document of any package" in capsys.readouterr().err


@given(
    st.from_regex(r"[a-z0-9][a-z0-9+.-]+", fullmatch=True),
    st.from_regex(r"[0-9]{1,3}", fullmatch=True),
)
def test_a_family_has_all_versions_and_sorts_as_its_ids_do(source, number):
    family = debian.family_of(source)
    assert debian.family_of(family) == family or family == source
    assert not any(character <= "-" for character in family) or family == source
    versioned = debian.family_of(f"{source}-{number}")
    if any(character.isalpha() for character in source):
        assert versioned == debian.family_of(source)
