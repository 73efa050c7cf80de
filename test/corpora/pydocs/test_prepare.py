import logging

import pytest

from mtla_espnet.cli import main
from mtla_espnet.corpora.pydocs.prepare import PACKAGES
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.tables import read_table


def rest(seed, words=30):
    return " ".join(f"{seed}{number}" for number in range(words))


def install(site, name, number, functions):
    """Make an installed package of one module from function name -> (summary, document)."""
    module = name.replace("-", "_")
    (site / module).mkdir(parents=True)
    source = "".join(
        f'def {function}():\n    """{summary}\n\n    {document}\n    """\n\n\n'
        for function, (summary, document) in functions.items()
    )
    (site / module / "__init__.py").write_text(source)
    (site / module / "tests").mkdir()
    (site / module / "tests" / "test_a.py").write_text(source.replace("def ", "def test_"))
    info = site / f"{module}-{number}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    (info / "RECORD").write_text(f"{module}/__init__.py,,\n{module}/tests/test_a.py,,\n")


@pytest.fixture
def packages(tmp_path, monkeypatch):
    site = tmp_path / "site"
    shared = ("Shared by two packages here.", rest("shared"))
    install(site, "fake-test", "1.0", {"f": ("Return the first thing.", rest("a")), "g": shared})
    install(site, "fake-valid", "2.0", {"f": ("Return the second thing.", rest("b"))})
    install(site, "fake", "3.0", {"f": ("Return the third thing.", rest("c", 300)), "h": shared})
    install(site, "fake-two", "3.1", {"f": ("Return the fourth thing.", rest("d"))})
    monkeypatch.syspath_prepend(str(site))
    return tmp_path


def prepare(directory, *arguments, test="fake-test", train="fake fake-two"):
    return main(
        ["prepare", "pydocs", "--output", str(directory / "data"), "--nj", "1",
         "--auxiliary_share", "0", "--test_packages", test, "--valid_packages", "fake-valid",
         "--train_packages", train,
         *arguments]
    )  # fmt: skip


def test_data_directories(packages):
    assert prepare(packages) == 0
    for name in PACKAGES:
        validate_data_dir(packages / "data" / name, audio=False)
    data = packages / "data"
    assert read_table(data / "test/text") == {
        "fake_test-fake_test.f": "Return the first thing.",
        "fake_test-fake_test.g": "Shared by two packages here.",
    }
    documents = read_table(data / "test/src_text")
    heading = "function f in fake test [summary]"
    assert documents["fake_test-fake_test.f"] == f"{heading} {rest('a')}"
    assert read_table(data / "train/utt2spk") == {
        "fake-fake.f": "fake",
        "fake_two-fake_two.f": "fake_two",
    }
    # the document of `fake.h` is a test document, behind another heading
    assert "fake-fake.h" not in read_table(data / "train/text")
    assert len(read_table(data / "train/src_text")["fake-fake.f"].split()) == 100 + 5
    assert (data / "sources.txt").read_text() == (
        "fake-test==1.0\nfake-two==3.1\nfake-valid==2.0\nfake==3.0\n"
    )


def test_the_same_bytes_twice_and_with_workers(packages):
    prepare(packages)
    first = {path: path.read_bytes() for path in (packages / "data").rglob("*") if path.is_file()}
    prepare(packages, "--nj", "3")
    assert first == {path: path.read_bytes() for path in first}


def test_a_longer_document(packages):
    prepare(packages, "--max_document_words", "17")
    sources = read_table(packages / "data/train/src_text").values()
    documents = [source.partition(" [summary] ")[2] for source in sources]
    assert {len(document.split()) for document in documents} == {17}


def test_training_leaves_out_summaries_of_long_words(packages):
    words = "Return " + " ".join(4 * ["x" * 40])
    install(packages / "site", "fake-long", "1.0", {"f": (words, rest("x"))})
    install(packages / "site", "fake-long-test", "1.0", {"f": (words, rest("y"))})
    prepare(packages, train="fake fake-long", test="fake-long-test")
    assert list(read_table(packages / "data/train/text")) == ["fake-fake.f", "fake-fake.h"]
    assert list(read_table(packages / "data/test/text")) == ["fake_long_test-fake_long_test.f"]
    prepare(packages, "--max_summary_characters", "200", train="fake-long", test="fake-long-test")
    assert list(read_table(packages / "data/train/text")) == ["fake_long-fake_long.f"]


def test_training_has_pairs_that_teach_to_copy(packages):
    install(
        packages / "site", "fake-aux", "1.0", {
            "f": ("Return the fifth thing.", "Some words of the start. " + rest("E") + ". Some end "
                  "of the words.")
        },
    )  # fmt: skip
    assert prepare(packages, "--auxiliary_share", "1", train="fake-aux fake") == 0
    validate_data_dir(packages / "data/train", audio=False)
    summaries = read_table(packages / "data/train/text")
    documents = read_table(packages / "data/train/src_text")
    name = "fake_aux-fake_aux.f"
    assert {key: text for key, text in summaries.items() if key.startswith(name)} == {
        name: "Return the fifth thing.",
        f"{name}~first": "Some words of the start.",
        f"{name}~gap": "Some end of the words.",
    }
    assert documents[f"{name}~first"] == documents[name].replace("[summary]", "[first]")
    assert documents[f"{name}~gap"] == (
        f"function f in fake aux [gap] Some words of the start. {rest('E')}."
    )
    # a sentence of 300 words is no summary
    assert [key for key in summaries if key.startswith("fake-")] == ["fake-fake.f"]
    for other in ("valid", "test"):
        assert not any("~" in key for key in read_table(packages / "data" / other / "text"))


def test_other_versions_than_measured_are_told(packages, caplog):
    measured = packages / "sources.txt"
    measured.write_text("fake-test==1.0\nfake==2.9\nfake-valid==2.0\ngone==1\n")
    with caplog.at_level(logging.WARNING):
        assert prepare(packages, "--measured_sources", str(measured)) == 0
    (warning,) = [each.message for each in caplog.records if "README" in each.message]
    assert warning == (
        "the README's results were measured with other sources: "
        "fake 2.9 -> 3.0; fake-two (none) -> 3.1; gone 1 -> (none)"
    )
    caplog.clear()
    measured.write_text((packages / "data/sources.txt").read_text())
    prepare(packages, "--measured_sources", str(measured))
    assert "README" not in caplog.text


def test_training_goes_without_a_package_that_is_not_there(packages, caplog):
    assert prepare(packages, train="fake fake-gone") == 0
    assert "fake-gone is not installed: training goes without it" in caplog.text
    assert "fake-gone" not in (packages / "data/sources.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "options", "code", "message"),
    [
        ([], {"test": "fake-gone"}, 1, "error: fake-gone of the test set is not installed"),
        ([], {"train": "fake fake-valid"}, 2, "error: --train_packages: 'fake-valid' is there tw"),
        (["--nj", "0"], {}, 2, "error: --nj must be at least 1, not 0"),
        (["--auxiliary_share", "1.5"], {}, 2, "error: --auxiliary_share must be 0 to 1, not 1.5"),
        (["--max_document_words", "0"], {}, 2, "error: --max_document_words must be at least 1"),
        (["--measured_sources", "gone.txt"], {}, 1, "error: gone.txt: no such file"),
        ([], {"train": ""}, 1, "train: no document of any package"),
    ],
)
def test_mistakes(packages, capsys, arguments, options, code, message):
    assert prepare(packages, *arguments, **options) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error:") == 1
    assert not (packages / "data/train").exists()
