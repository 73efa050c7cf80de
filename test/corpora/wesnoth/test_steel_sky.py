import numpy as np
import pytest

from mtla_espnet.corpora.wesnoth.steel_sky import SkyLine, SteelSky, read_tree
from mtla_espnet.files import UserError
from wesnoth_games import sky_tree, write_sky

LINES = {
    (0, 0): ("Don't GO!", "Geh NICHT!", 0.2),
    (1, 31): ("The `old' key...", "Der ~RGER, #ber `ne T}R...", 0.3),
    (1, 32): ("Of the next block", "Vom n*chsten Block", 0.4),
    (1, 70): ("A" * 200, "Gr)(e", 0.5),  # longer than a step's byte says
    (5, 3): ("Spoken only in English", "", 0.6),
}


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "scummvm"
    path.write_bytes(b"program" + sky_tree()[0] + b"more")
    return path


@pytest.mark.parametrize("packed", [True, False])
def test_lines_and_speech_are_read(tmp_path, program, packed):
    samples = write_sky(tmp_path, LINES, packed)
    game = SteelSky(tmp_path)
    assert game.lines(program) == [
        SkyLine(0, 0, "Don't GO!", "Geh NICHT!"),
        SkyLine(631, 1, 'The "old" key...', "Der ÄRGER, über 'ne TÜR..."),
        SkyLine(632, 1, "Of the next block", "Vom nächsten Block"),
        SkyLine(670, 1, "A" * 200, "Größe"),
    ]
    for (section, number), expected in samples.items():
        speech = game.speech((0, 600, None, None, None, 4530)[section] + number)
        assert speech.dtype == np.int8
        assert (speech.astype(int) + 128).tolist() == list(expected)


def test_damage_is_told(tmp_path, program):
    write_sky(tmp_path, LINES)
    index, disk = tmp_path / "sky.dnr", tmp_path / "sky.dsk"
    whole = index.read_bytes()
    index.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"sky.dnr: is not the index of the game"):
        SteelSky(tmp_path)
    index.write_bytes(whole)
    with pytest.raises(UserError, match=r"sky.dsk: has no file 51234"):
        SteelSky(tmp_path).speech(1234)
    program.write_bytes(b"another program")
    with pytest.raises(UserError, match=r"scummvm: has no codes of the game's characters"):
        SteelSky(tmp_path).lines(program)
    disk.write_bytes(disk.read_bytes()[:-900])
    with pytest.raises(UserError, match=r"sky.dsk: is cut off: file \d+ goes to \d+"):
        SteelSky(tmp_path)


def test_the_tree_ends_where_all_its_leaves_are(program):
    assert read_tree(program) == sky_tree()[0]
