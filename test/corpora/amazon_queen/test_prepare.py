import soundfile

from mtla_espnet.cli import main
from mtla_espnet.corpora.amazon_queen import prepare as amazon_queen
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.rejected import read_rejected
from mtla_espnet.data.kaldi.tables import read_table
from queen_game import cutaway, dialogue, game, mp3

SPEECH = mp3()


def write_game(directory, spoken=None):
    """A game with characters of each set; `spoken`: name -> content of further speech files."""
    files = {
        "BOB1.DOG": dialogue(2, {6: "What is this, BOB?"}, {6: "My shop.*00Buy it!"}),
        "JIM.DOG": dialogue(3, {6: "Who are you?"}, {6: "Jim."}),
        "WITCH.DOG": dialogue(4, {6: "A witch..."}, {6: "Yes, left-handed.*00Buy it!"}),
        "C18A.CUT": cutaway("Hello there!", "A WITCH!", "<gulp>"),
        "C21B.CUT": cutaway("Over here!"),
        "QUEEN2.JAS": b"Nice*02",
    }
    names = (
        "020006J1 020006P1 020006P2 030006J1 030006P1 040006J1 040006P1 040006P2 "
        "C18A_001 C18A_011 C18A_021 C21B_001 JOE00411 UNTITLED"
    ).split()
    speech = {f"{name}.SB": SPEECH for name in names} | (spoken or {})
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "queen.1c").write_bytes(game(files | speech))


def prepare(root, output, *words):
    return main(
        ["prepare", "amazon_queen", "--downloads", f"{root}", "--output", f"{output}",
         "--max_rejected", "60", "--nj", "1", *words]
    )  # fmt: skip


def test_characters_scenes_and_texts_are_held_out(tmp_path):
    write_game(tmp_path / "raw")
    for _ in range(2):
        assert prepare(tmp_path / "raw", tmp_path / "data") == 0
    found = {}
    for name in amazon_queen.SETS:
        validate_data_dir(tmp_path / "data" / name)
        found[name] = read_table(tmp_path / "data" / name / "text")
    assert found == {
        # BOB's "Buy it!" and the cutaway's "A WITCH!" are texts of tests
        "train": {
            "BOB-020006P1": "my shop",
            "C18-C18A_001": "hello there",
            "JOE-020006J1": "what is this bob",
            "JOE-JOE00411": "nice",
        },
        "valid": {"JIM-030006P1": "jim", "JOE-030006J1": "who are you"},
        "test_scenes": {"C21-C21B_001": "over here", "JOE-040006J1": "a witch"},
        "test_characters": {"WITCH-040006P1": "yes left handed", "WITCH-040006P2": "buy it"},
    }
    test = tmp_path / "data/test_characters"
    assert read_table(test / "text.tc")["WITCH-040006P1"] == "Yes, left-handed."
    assert set(read_table(test / "utt2spk").values()) == {"WITCH"}
    for path in read_table(test / "wav.scp").values():
        assert soundfile.info(path).samplerate == 11025
    assert len(list((tmp_path / "data/audio").glob("*.mp3"))) == 14


def test_what_cannot_be_used_is_listed(tmp_path):
    write_game(tmp_path / "raw", {"020006P2.SB": b"", "020006P1.SB": mp3(0.1)})
    assert prepare(tmp_path / "raw", tmp_path / "data") == 0
    reasons = {
        each.utterance: each.reason for each in read_rejected(tmp_path / "data/train/rejected.tsv")
    }
    expected = {
        "BOB-020006P1": "020006P1.SB: cut off: 0.",
        "BOB-020006P2": "020006P2.SB: ",
        "C18-C18A_021": "C18A_021.SB: a sound without words",
        "UNKNOWN-UNTITLED": "UNTITLED.SB has no text",
    }
    assert reasons.keys() == expected.keys()
    assert all(reasons[key].startswith(reason) for key, reason in expected.items()), reasons


def test_the_package_is_fetched_once(tmp_path, archive, monkeypatch, capsys):
    write_game(tmp_path / "tree" / amazon_queen._IN_PACKAGE)
    archive.hold(tree=tmp_path / "tree")
    pinned = amazon_queen.PACKAGE._replace(sha256=archive.sha256)
    monkeypatch.setattr(amazon_queen, "PACKAGE", pinned)
    root = tmp_path / "downloads"
    assert prepare(root, tmp_path / "data") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--local_data_opts --download" in error and "QUEEN" in error
    assert prepare(root, tmp_path / "data", "--download") == 0
    archive.remove()
    assert prepare(root, tmp_path / "data") == 0
    assert prepare(tmp_path / "tree", tmp_path / "data") == 0
    assert prepare(tmp_path / "tree" / amazon_queen._IN_PACKAGE, tmp_path / "data") == 0
