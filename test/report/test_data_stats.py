import struct

import numpy as np
import pytest

from audio_files import SPH, make_data_dir, noise, write_wav
from mtla_espnet.cli import main
from mtla_espnet.data.audio.format import format_audio
from mtla_espnet.data.features.durations import durations_s
from mtla_espnet.files import UserError


@pytest.fixture
def data(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(8000), 8000)
    data = make_data_dir(tmp_path / "data", {"a-1": path, "a-2": path, "b-1": SPH})
    (data / "text").write_text("a-1 GO ON\na-2\nb-1 GO UP NOW\n")
    return data


def test_statistics_and_plot(data, capsys):
    assert main(["data", "stats", str(data)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(data),
        "  utterances  3",
        "  speakers    2 (1 to 2 utterances each)",
        "  speech      0.00 h; 0.25 to 1.00 s, mean 0.75, median 1.00",
        "  text        5 words, 4 different, 3 once; 6 characters; 1 lines are empty",
        f"  plot        {data}/lengths.png",
    ]
    content = (data / "lengths.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width > 2 * height


def test_text_alone(tmp_path, capsys):
    (tmp_path / "text").write_text("a x y\n")
    assert main(["data", "stats", str(tmp_path), "--png", str(tmp_path / "t.png")]) == 0
    assert "speech" not in capsys.readouterr().out
    assert (tmp_path / "t.png").exists()


def test_durations_are_the_same_from_every_source(data, tmp_path):
    expected = {"a-1": 1.0, "a-2": 1.0, "b-1": 0.25}
    assert durations_s(data, nj=2) == expected
    for audio_format in ("flac", "wav.ark"):
        format_audio(data, tmp_path / audio_format, 16000, audio_format)
        assert durations_s(tmp_path / audio_format) == expected
        (tmp_path / audio_format / "utt2num_samples").unlink()
        assert durations_s(tmp_path / audio_format) == expected
    (data / "utt2dur").write_text("a-1 1\na-2 1\nb-1 0.25\n")
    assert durations_s(data) == expected
    np.save(tmp_path / "a.npy", np.ones((50, 2), np.float32))
    features = tmp_path / "features"
    features.mkdir()
    (features / "feats.scp").write_text(f"u {tmp_path}/a.npy\n")
    (features / "frame_shift").write_text("0.02\n")
    assert durations_s(features) == {"u": 1.0}
    (features / "feats_shape").write_text("u 25,2\n")
    assert durations_s(features) == {"u": 0.5}


def test_what_cannot_be_told_is_named(data, capsys):
    (data / "utt2dur").write_text("a-1 long\n")
    with pytest.raises(UserError, match="utt2dur:1: 'a-1' has 'long', not a number"):
        durations_s(data)
    (data / "utt2dur").unlink()
    (data / "wav.scp").write_text("a-1 cat x |\n")
    with pytest.raises(UserError, match="wav.scp: 'a-1' is a command: write utt2dur"):
        durations_s(data)
    (data / "wav.scp").write_text("a-1 none.wav\n")
    assert main(["data", "stats", str(data)]) == 1
    assert "error: none.wav: no such file" in capsys.readouterr().err
    assert main(["data", "stats", str(data), str(data), "--png", "x.png"]) == 2
