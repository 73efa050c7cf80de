import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.corpora.ami import prepare as ami
from mtla_espnet.corpora.ami.annotations import Token
from mtla_espnet.corpora.ami.utterances import cut_segment, normalise
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from raw_corpora import FIXTURES, check_expected, raw_copy, run_prepare, tables

RAW = FIXTURES / "ami"
PART = ["--meetings", "ES2002a ES2011a EN2002a", "--max_rejected", 20, "--nj", 1]
WORDS = "annotations/words/ES2002a.A.words.xml"
SEGMENTS = "annotations/segments/ES2002a.A.segments.xml"


def prepare(output, *argv, root=RAW):
    run_prepare("ami", "--downloads", root, "--output", output, *PART, *argv)


def test_the_partition_is_that_of_full_corpus_asr():
    sizes = {part: len(names) for part, names in ami.PARTITION.items()}
    assert sizes == {"train": 137, "dev": 18, "eval": 16}
    everything = list(itertools.chain(*ami.PARTITION.values()))
    assert len(set(everything)) == 171
    assert {"IB4005", "EN2001e", "IS1002d", "IS1005c", "TS3012d"} <= set(ami.PARTITION["train"])
    assert not {"EN2001c", "EN2009a", "IS1002a", "IS1005d"} & set(everything)


def test_the_fixture_becomes_the_expected_directories(tmp_path):
    prepare(tmp_path)
    check_expected(tmp_path, "ami", RAW)
    for name in ("ihm_train", "ihm_dev", "ihm_eval"):
        validate_data_dir(tmp_path / name)


def test_a_second_run_and_more_processes_change_nothing(tmp_path):
    prepare(tmp_path)
    before = tables(tmp_path)
    prepare(tmp_path, "--nj", 3)
    assert tables(tmp_path) == before


def test_a_distant_microphone_has_its_own_ids(tmp_path):
    prepare(tmp_path, "--mic", "sdm1")
    assert read_table(tmp_path / "sdm1_eval" / "text") == {
        "AMI_EN2002a_SDM_MEE096_0000010_0000045": "RIGHT",
        "AMI_EN2002a_SDM_MEE096_0000045_0000110": "THANK YOU",
    }
    assert read_table(tmp_path / "sdm1_train" / "wav.scp") == {
        "AMI_ES2002a_SDM": str(RAW / "ES2002a/audio/ES2002a.Array1-01.wav")
    }
    validate_data_dir(tmp_path / "sdm1_train")


@pytest.mark.parametrize("place", ["", "{}/"])
def test_a_beamformed_tree_is_used_for_mdm8(tmp_path, place):
    for meeting in ("ES2002a", "ES2011a", "EN2002a"):
        path = tmp_path / "beam" / place.format(meeting) / f"{meeting}_MDM8.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((RAW / f"{meeting}/audio/{meeting}.Array1-01.wav").read_bytes())
    prepare(tmp_path / "data", "--mic", "mdm8", "--beamformed", tmp_path / "beam")
    (recording,) = read_table(tmp_path / "data/mdm8_dev/wav.scp").items()
    found = tmp_path / "beam" / place.format("ES2011a") / "ES2011a_MDM8.wav"
    assert recording == ("AMI_ES2011a_MDM", str(found))


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--mic", "ihm2"], 2, "--mic must be one of ihm, sdm1, mdm8, not 'ihm2'"),
        (["--times", "exact"], 2, "--times must be rounded or kaldi, not 'exact'"),
        (["--mic", "mdm8"], 1, "--mic mdm8 needs beamformed audio"),
        (["--mic", "mdm8", "--beamformed", "/none"], 1, "/none: no such file or directory"),
        (["--meetings", "ES2002x"], 2, "--meetings: no such meeting 'ES2002x' (nearest: 'ES2002"),
        (["--meetings", ""], 1, f"{RAW}/annotations/corpusResources/meetings.xml: 168 of the 171"),
        (["--meetings", "ES2002a"], 1, "data/ihm_dev: the corpus has no utterance for this set"),
        (["--max_rejected", "1"], 1, "data/ihm_train/rejected.tsv: 1 of 9 utterances rejected"),
        (
            ["--downloads", "/none"],
            1,
            "/none/annotations: no such file or directory: does AMI name",
        ),
    ],
)
def test_a_wrong_option_or_root_is_one_line(tmp_path, argv, code, message):
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "data", *argv)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert error.value.exit_code == code
    assert not list(tmp_path.rglob("wav.scp"))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (WORDS, b"</nite:root>", b"", f"{WORDS}:58: not XML (no element found)"),
        (WORDS, b"Caf\xe9</w>", b"Caf\xe9", f"{WORDS}:57: not XML (mismatched tag)"),
        (WORDS, b"ISO-8859-1", b"utf-8", f"{WORDS}:16: not XML (not well-formed (invalid token))"),
        (WORDS, b'starttime="0.20"', b'starttime="x"', f"{WORDS}:3: starttime must be a number"),
        (WORDS, b'endtime="0.', b'endtime="inf" x="0.', "endtime must be a number of seconds"),
        (WORDS, b'starttime="0.20"', b'starttime="1e308"', "starttime must be a number of second"),
        (WORDS, b'nite:id="ES2002a.A.words3"', b"", f"{WORDS}:6: <w> has no nite:id"),
        (SEGMENTS, b"words13", b"words99", f"{SEGMENTS}:7: ES2002a.A.words.xml has no element"),
        (
            SEGMENTS,
            b"words0)..id(ES2002a.A.words12",
            b"words9)..id(ES2002a.A.words0",
            "comes before",
        ),
        (SEGMENTS, b"#id", b"#", f"{SEGMENTS}:4: not `ES2002a.A.words.xml#id(...)..id(...)`"),
        (SEGMENTS, b"href", b"ref", f"{SEGMENTS}:4: <nite:child> has no href"),
        (
            "annotations/corpusResources/meetings.xml",
            b'channel="1"',
            b"",
            "meetings.xml:5: <speaker> has no channel",
        ),
        (
            "annotations/corpusResources/meetings.xml",
            b'global_name="',
            b'global_name="../../x y',
            "global_name is no name: '../../x y",
        ),
    ],
)
def test_damaged_annotations_are_named(tmp_path, file, old, new, message):
    root = raw_copy("ami", tmp_path)
    damaged = (root / file).read_bytes().replace(old, new)
    (root / file).write_bytes(damaged)
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "data", root=root)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


BILLION_LAUGHS = b"<!ENTITY a0 'ha'>" + b"".join(
    b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10)
)


@pytest.mark.parametrize(
    "declarations",
    [BILLION_LAUGHS, b"<!ENTITY a9 'x'>", b"<!ENTITY a9 SYSTEM 'file:///etc/passwd'>"],
)
def test_an_entity_is_not_expanded(tmp_path, declarations):
    root = raw_copy("ami", tmp_path)
    head, _, rest = (root / WORDS).read_bytes().partition(b"<nite:root")
    text = head + b"<!DOCTYPE root [" + declarations + b"]>\n<nite:root" + rest
    (root / WORDS).write_bytes(text.replace(b"Caf\xe9", b"&a9;"))
    with pytest.raises(UserError, match=r"words.xml:\d+: declares the entity 'a[09]'"):
        prepare(tmp_path / "data", root=root)


def test_a_text_in_many_parts_is_read_as_one(tmp_path):
    """The parser gives a text in parts, one a reference: their number must not square the time."""
    root = raw_copy("ami", tmp_path)
    text = (root / WORDS).read_bytes()
    (root / WORDS).write_bytes(text.replace(b"Caf\xe9", b"&#x61;" * 300_000))
    prepare(tmp_path / "data", root=root)
    texts = read_table(tmp_path / "data/ihm_train/text").values()
    assert any("A" * 300_000 in words for words in texts)


def test_a_missing_annotation_is_named(tmp_path):
    root = raw_copy("ami", tmp_path)
    (root / SEGMENTS).unlink()
    with pytest.raises(UserError, match=r"ES2002a.A.segments.xml: no such file or directory"):
        prepare(tmp_path / "data", root=root)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda path: path.unlink(),
            "Headset-1.wav: no such file (1 of the 2 audio files are bad)",
        ),
        (lambda path: path.write_bytes(b"RIFF"), "Headset-1.wav: cannot be read as audio"),
        (lambda path: path.write_bytes(path.read_bytes()[:9000]), "Headset-1.wav: truncated"),
        (lambda path: path.write_bytes(b""), "Headset-1.wav: is empty (0 bytes)"),
    ],
)
def test_bad_audio_is_listed_and_the_rest_goes_on(tmp_path, damage, reason):
    root = raw_copy("ami", tmp_path)
    damage(root / "ES2002a/audio/ES2002a.Headset-1.wav")
    prepare(tmp_path / "data", "--max_rejected", 40, root=root)
    text = read_table(tmp_path / "data/ihm_train/text")
    assert len(text) == 6 and not any("MIO098" in key for key in text)
    lines = (tmp_path / "data/ihm_train/rejected.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == [
        "AMI_ES2002a_H01_MIO098_0000050_0000120",
        "AMI_ES2002a_H01_MIO098_0000150_0000255",
        "ES2002a.sync.4",
    ]
    assert reason in lines[1] and "ES2002a.B.segments.xml\t3\t" in lines[1]


def test_too_much_bad_audio_stops_and_nothing_looks_whole(tmp_path):
    root = raw_copy("ami", tmp_path)
    prepare(tmp_path / "data", root=root)
    (root / "ES2011a/audio/ES2011a.Headset-0.wav").unlink()
    with pytest.raises(UserError, match="2 of 2 utterances rejected.*Headset-0.wav: no such file"):
        prepare(tmp_path / "data", root=root)
    assert not list(tmp_path.rglob("data/*/wav.scp"))


def test_a_segment_after_the_end_of_its_audio_is_rejected(tmp_path):
    root = raw_copy("ami", tmp_path)
    shorter = (root / "ES2011a/audio/ES2011a.Headset-0.wav").read_bytes()
    (root / "ES2002a/audio/ES2002a.Headset-1.wav").write_bytes(shorter)  # 1.2 s
    prepare(tmp_path / "data", "--max_rejected", 40, root=root)
    rejected = (tmp_path / "data/ihm_train/rejected.tsv").read_text()
    assert "1.500 s to 2.550 s" in rejected and "1.200 s long" in rejected
    assert "AMI_ES2002a_H01_MIO098_0000050_0000120" not in rejected


words = st.lists(
    st.sampled_from(["go", "X_M_L", "uh-huh", "-", ".", ",", "?", "!", ":"]),
    min_size=1,
    max_size=90,
)


@given(words)
def test_pieces_follow_each_other_and_lose_no_word(items):
    tokens = [
        Token(
            text, text in ".,?!:", place / 10, place / 10 if text in ".,?!:" else (place + 1) / 10
        )
        for place, text in enumerate(items)
    ]
    pieces = cut_segment(tokens)
    assert all(one.end_cs == two.start_cs for one, two in itertools.pairwise(pieces))
    assert pieces[0].start_cs == 0
    spoken = " ".join(piece.text for piece in pieces if piece.text)
    assert spoken == " ".join(
        filter(None, (normalise([token.text]) for token in tokens if not token.is_mark))
    )
    for piece in pieces:
        assert not set(piece.text) & set(",?!:_")


def test_a_long_piece_is_cut_at_the_comma_nearest_to_its_middle():
    text = "w " * 10 + ", " + "w " * 12 + ", " + "w " * 12
    tokens = [
        Token(word, word == ",", float(place), place + 1.0)
        for place, word in enumerate(text.split())
    ]
    cut = [(len(piece.text.split()), piece.start_cs, piece.end_cs) for piece in cut_segment(tokens)]
    assert cut == [(22, 0, 2300), (12, 2300, 3600)]
    without_comma = [token for token in tokens if not token.is_mark]
    assert len(cut_segment(without_comma)) == 1


def test_times_are_rounded_or_cut_off_as_in_kaldi(tmp_path):
    tokens = [Token("go", False, 4.35, 5.1)]  # 4.35 * 100 = 434.99999999999994
    assert [piece[1:] for piece in cut_segment(tokens)] == [(435, 510)]
    assert [piece[1:] for piece in cut_segment(tokens, "kaldi")] == [(434, 509)]
    prepare(tmp_path, "--times", "kaldi")
    # 2.55 * 100 = 254.99999999999997
    assert "AMI_ES2002a_H01_MIO098_0000150_0000254" in read_table(tmp_path / "ihm_train/text")


def test_no_time_at_all_is_told():
    assert cut_segment([Token("hm", False, None, None)]) is None
