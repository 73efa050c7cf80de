"""`mtla-espnet data check`, with --deep and --fix."""

import numpy as np
import pytest

from audio_files import SPH, make_data_dir, noise, write_wav
from mtla_espnet.cli import main
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.tables import read_table


def check(capsys, *argv):
    code = main(["data", "check", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


@pytest.fixture
def data(tmp_path):
    wavs = {f"a-{i}": write_wav(tmp_path / f"{i}.wav", noise(1600 * i)) for i in (1, 2)}
    return make_data_dir(tmp_path / "data", wavs | {"b-1": SPH})


def test_a_sound_directory(data, capsys):
    code, out, _ = check(capsys, data)
    assert (code, out) == (0, [f"Successfully validated data-directory {data}"])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("text", "a-1 GO\na-2 GO\n", "utterance lists extracted from utt2spk and text differ"),
        ("text", "a-1 <s>\na-2 GO\nb-1 GO\n", "text:1: text contains illegal symbol '<s>'"),
        ("text.tc.de", "a-1 Los\n", "extracted from utt2spk and text.tc.de differ"),
        ("transcript", "", "transcript: empty file"),
        ("utt2spk", "a-2 a\na-1 a\nb-1 b\n", "utt2spk:2: file is not sorted or has duplicates"),
        ("spk2utt", "a a-1\nb b-1\n", "spk2utt and utt2spk do not seem to match"),
        ("segments", "a-1 a-1 2 1\n", "segments:1: badly formatted segments file"),
        ("feats.scp", "a-1 x.ark:5\n", "extracted from utt2spk and features differ"),
    ],
)
def test_what_is_wrong_is_one_line(data, capsys, file, content, message):
    (data / file).write_text(content)
    code, out, errors = check(capsys, data)
    assert code == 1 and out == []
    assert errors[-1].startswith("error: ") and message in errors[-1]


def test_a_directory_of_text_alone(tmp_path, capsys):
    (tmp_path / "src_text").write_text("a long\n")
    (tmp_path / "text").write_text("a short\n")
    assert check(capsys, tmp_path)[0] == 0
    (tmp_path / "src_text").write_text("b long\n")
    assert "text and src_text differ" in check(capsys, tmp_path)[2][-1]
    assert "none: no such directory" in check(capsys, tmp_path / "none")[2][-1]


@pytest.mark.parametrize("nj", [1, 2])
def test_every_file_is_read(data, tmp_path, capsys, nj):
    code, out, _ = check(capsys, data, "--deep", "--nj", nj)
    assert code == 0
    assert out[1:] == [
        "duration: 3 utterances, 0.1 to 0.25 s, median 0.2, total 0.00 h",
        "rate: 16000 Hz (3)",
    ]
    loud = np.clip(noise(1600).astype(int) * 9, -32768, 32767).astype(np.int16)
    write_wav(tmp_path / "1.wav", loud, 8000)
    write_wav(tmp_path / "2.wav", np.ones(3200, np.int16))
    (data / "utt2num_samples").write_text("a-1 1600\na-2 3200\nb-1 4001\n")
    code, out, _ = check(capsys, data, "--deep", "--nj", nj)
    assert code == 0
    assert out[2] == "rate: 8000 Hz (1), 16000 Hz (2)"
    text = "\n".join(out)
    share = 100 * np.mean(np.abs(loud.astype(int)) >= 32767)
    clipped = f"'a-1': {tmp_path}/1.wav: {share:.1f} % of the samples are at the limit"
    assert f"clipped: 1\n  {data}/wav.scp:1: {clipped}" in text
    assert f"silent: 1\n  {data}/wav.scp:2: 'a-2': {tmp_path}/2.wav: -90 dB of full scale" in text
    assert "of another length than said: 1" in text and "4000, not 4001" in text
    write_wav(tmp_path / "2.wav", np.array([0.1, np.nan], np.float32), subtype="FLOAT")
    (tmp_path / "1.wav").unlink()
    code, out, errors = check(capsys, data, "--deep", "--nj", nj)
    assert code == 1
    assert "cannot be used: 2" in out
    assert errors[-1].startswith(f"error: {data}: 2 utterances cannot be used; the first: ")
    assert f"{data}/wav.scp:1: 'a-1': {tmp_path}/1.wav: no such file" in errors[-1]


def test_features_are_read(tmp_path, capsys):
    for name, value in (("a", 0.0), ("b", np.nan)):
        np.save(tmp_path / f"{name}.npy", np.full((4, 2), value, np.float32))
    data = make_data_dir(tmp_path / "data", {"a": "x"})
    (data / "wav.scp").unlink()
    (data / "feats.scp").write_text(f"a {tmp_path}/a.npy\n")
    code, out, _ = check(capsys, data, "--deep")
    assert code == 0
    assert out[1:4] == [
        "length: 1 utterances, 4 to 4 frames, median 4, total 4 frames",
        "size: 2 features a frame (1)",
        "constant: 1",
    ]
    (data / "feats.scp").write_text(f"a {tmp_path}/b.npy\n")
    code, _, errors = check(capsys, data, "--deep")
    assert code == 1 and "not finite" in errors[-1]


def test_a_directory_is_mended_and_what_was_there_kept(data, capsys):
    (data / "text").write_text("b-1 GO\r\na-2\tGO\u00a0ON \n\na-2 GO ON\nz-9 NO")
    (data / "utt2spk").write_text("b-1 b\na-2 a\na-1 a\n")
    (data / "spk2utt").unlink()
    (data / "text.lc.de").write_text("a-2 los\nb-1 geh\nc-1 x\n")
    before = (data / "text").read_bytes()
    code, out, _ = check(capsys, data, "--fix")
    assert code == 0
    assert f"{data / 'text'}: 2 lines (before: 5)" in out
    assert f"{data}: what was there is in {data}/.backup" in out
    assert (data / "text").read_text() == "a-2 GO ON\nb-1 GO\n"
    for name in ("wav.scp", "utt2spk", "text.lc.de"):
        assert list(read_table(data / name)) == ["a-2", "b-1"]
    assert read_table(data / "spk2utt") == {"a": "a-2", "b": "b-1"}
    assert (data / ".backup/text").read_bytes() == before
    validate_data_dir(data)
    assert check(capsys, data, "--fix")[1][0] == f"{data}: there is nothing to fix"
    (data / "text").write_text("b-1 GO\n")
    assert check(capsys, data, "--fix")[0] == 0
    assert (data / ".backup/text").read_bytes() == before
    assert list(read_table(data / ".backup.1/wav.scp")) == ["a-2", "b-1"]


def test_segments_and_their_recordings_are_mended(tmp_path, capsys):
    data = make_data_dir(tmp_path / "data", {"a-1": "x", "a-2": "x", "a-3": "x"})
    (data / "wav.scp").write_text(f"rec {SPH}\nother {SPH}\n")
    (data / "segments").write_text("a-1 rec 0 0.1\na-2 rec 0.1 0.2\na-3 none 0 1\n")
    (data / "text").write_text("a-2 GO\na-3 GO\n")
    code, _, errors = check(capsys, data, "--fix")
    assert code == 0, errors
    assert read_table(data / "segments") == {"a-2": "rec 0.1 0.2"}
    assert list(read_table(data / "wav.scp")) == ["rec"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a-1 GO\na-1 STOP\n", "text:2: 'a-1' has two values, 'GO' and 'STOP': remove one"),
        ("z GO\n", "no utterance is in all of text, utt2spk, wav.scp"),
        ("a\u00a01 GO\n", "text:1: id 'a\\xa01' has an odd white space"),
    ],
)
def test_what_cannot_be_mended_is_not_touched(data, capsys, content, message):
    (data / "text").write_text(content)
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    code, _, errors = check(capsys, data, "--fix")
    assert code == 1 and message in errors[-1]
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
