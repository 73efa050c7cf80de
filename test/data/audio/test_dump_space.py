"""What the formatted copy will take, foretold from what a data directory says."""

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.audio.dump_space import dump_bytes
from mtla_espnet.data.kaldi.datadir import write_data_dir
from mtla_espnet.data.kaldi.tables import write_table


def data_dir(path, seconds, rate_hz=8000):
    for name, duration_s in seconds.items():
        soundfile.write(path / f"{name}.wav", np.zeros(round(duration_s * rate_hz)), rate_hz)
    scp = {name: path / f"{name}.wav" for name in seconds}
    write_data_dir(path, scp, dict.fromkeys(seconds, "A"), dict.fromkeys(seconds, "s"))
    return path


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.sampled_from([8000, 16000]))
def test_headers_tell_the_size(tmp_path_factory, tenths, fs):
    seconds = {f"utt{number}": tenth / 10 for number, tenth in enumerate(tenths)}
    path = data_dir(tmp_path_factory.mktemp("data"), seconds)
    assert dump_bytes(path, fs, "wav") == pytest.approx(2 * fs * sum(tenths) / 10)
    assert 0.5 < dump_bytes(path, fs, "flac.ark") / dump_bytes(path, fs, "wav.ark") < 1


def test_segments_and_durations_go_before_headers(tmp_path):
    path = data_dir(tmp_path, {"a": 1.0, "b": 1.0})
    write_table(path / "utt2dur", {"a": 3, "b": 4.5})
    assert dump_bytes(path, 1000, "wav") == 7.5 * 2000
    write_table(path / "segments", {"u": "a 0.25 0.75", "v": "b 0 1"})
    assert dump_bytes(path, 1000, "wav") == 1.5 * 2000


def test_of_many_files_some_are_read(tmp_path):
    path = data_dir(tmp_path, {"a": 2.0})
    write_table(path / "wav.scp", {f"utt{n:04}": path / "a.wav" for n in range(1001)})
    assert dump_bytes(path, 1000, "wav") == pytest.approx(1001 * 2.0 * 2000)


@pytest.mark.parametrize("entry", ["sox a.wav -t wav - |", "none.wav", "x.ark:12"])
def test_where_nothing_tells_it_is_unknown(tmp_path, entry):
    write_table(tmp_path / "wav.scp", {"a": entry})
    assert dump_bytes(tmp_path, 1000, "wav") is None
