import argparse
import io
import subprocess
import sys
import tarfile

import pytest
import soundfile

from mtla_espnet.corpora import mini_an4
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError


@pytest.fixture
def args(tmp_path):
    parser = argparse.ArgumentParser()
    mini_an4.add_arguments(parser)
    return parser.parse_args(["--output", f"{tmp_path}/data", "--downloads", f"{tmp_path}/raw"])


def test_prepare_makes_three_sets_of_real_recordings(args):
    for _ in range(2):  # the second run unpacks nothing and appends nothing
        mini_an4.prepare(args)
    texts = {}
    for name in ("train", "valid", "test"):
        validate_data_dir(args.output / name)
        texts[name] = read_table(args.output / name / "text")
        for path in read_table(args.output / name / "wav.scp").values():
            assert path.endswith(".sph")
            assert soundfile.info(path).samplerate == 16000
    assert texts["train"] == {
        "fash-an251-fash-b": "YES",
        "fash-an253-fash-b": "GO",
        "fbbh-cen8-fbbh-b": "MARCH THIRD NINETEEN TWENTY EIGHT",
        "mwhw-an152-mwhw-b": "START",
    }
    assert texts["valid"] == {"mwhw-cen8-mwhw-b": "ELEVEN SEVENTEEN FIFTY ONE"}
    assert list(texts["test"]) == ["fcaw-cen8-fcaw-b", "mmxg-cen8-mmxg-b"]
    assert [path.name for path in args.downloads.iterdir()] == ["an4"]


def test_the_archive_is_found_without_importing_espnet():
    code = (
        "import sys; from mtla_espnet.corpora import mini_an4; print(mini_an4.find_archive());"
        "assert not {'espnet', 'espnet2', 'espnet3', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("downloads.tar.gz\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("an4_train.transcription", "YES\n", ":1: not `WORDS (file)`: 'YES'"),
        ("an4_train.fileids", "an4_clstk/fash/none\n", ":1: 'an4_clstk/fash/none' has no trans"),
        ("an4_train.fileids", "an4_clstk/none/an251-fash-b\n", ":1: no such file: "),
        ("an4_train.fileids", "an251-fash-b\n", ":1: 'an251-fash-b' has no"),
    ],
)
def test_a_damaged_corpus_is_named(args, name, content, message):
    mini_an4.prepare(args)
    path = args.downloads / "an4" / "etc" / name
    path.write_text(content)
    with pytest.raises(UserError) as error:
        mini_an4.prepare(args)
    assert str(error.value).startswith(f"{path}{message}")
    path.unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        mini_an4.prepare(args)


def archive_of(path, name):
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    return path


@pytest.mark.parametrize("name", ["downloads/an4/../../../evil", "downloads/other/x"])
def test_an_archive_that_is_not_ours_is_refused(tmp_path, name):
    archive = archive_of(tmp_path / "a.tar.gz", name)
    with pytest.raises(UserError, match="a.tar.gz: "):
        mini_an4.unpack(archive, tmp_path / "raw" / "an4")
    assert list((tmp_path / "raw").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_a_truncated_archive_is_refused(tmp_path):
    whole = mini_an4.find_archive().read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="a.tar.gz: cannot be unpacked"):
        mini_an4.unpack(tmp_path / "a.tar.gz", tmp_path / "raw" / "an4")
    assert list((tmp_path / "raw").iterdir()) == []
