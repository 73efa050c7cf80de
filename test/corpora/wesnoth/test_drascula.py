import numpy as np
import pytest

from mtla_espnet.corpora.wesnoth.drascula import DrasculaLine, read_lines, read_speech
from mtla_espnet.files import UserError
from wesnoth_games import pcm, write_drascula


def test_lines_are_those_with_speech_and_both_texts(tmp_path):
    lines = {
        "2": ("NOT REALLY", "Nein, für  ihn nicht"),
        "VB3": ("YES", "JA"),
        "BJ1": ("", "NEIN"),
    }
    write_drascula(tmp_path, lines, 0.5)
    for name in ("S1.ALS", "99.ALS", "a1.ALS"):  # other speech
        (tmp_path / name).write_bytes(b"")
    assert read_lines(tmp_path) == [
        DrasculaLine("2", "HERO", "NOT REALLY", "Nein, für ihn nicht"),
        DrasculaLine("VB3", "VB", "YES", "JA"),
    ]
    expected = np.frombuffer(pcm(0.5), np.uint8).astype(int) - 128
    assert read_speech(tmp_path / "2.ALS").astype(int).tolist() == expected.tolist()


def test_damage_is_told(tmp_path):
    write_drascula(tmp_path, {"1": ("THAT'S THE SECOND BIGGEST DOOR", "Ja")})
    path = tmp_path / "drascula.dat"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"drascula.dat: ends in a table of texts"):
        read_lines(tmp_path)
    path.write_bytes(b"DRASCULA" * 9)
    with pytest.raises(UserError, match=r"drascula.dat: has not the texts that this recipe reads"):
        read_lines(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"drascula.dat"):
        read_lines(tmp_path)
