import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.corpora.must_c.segments import read_talk_segments
from mtla_espnet.data.kaldi.datadir import read_segments, validate_data_dir
from mtla_espnet.data.kaldi.rejected import read_rejected
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from raw_corpora import FIXTURES, check_expected, raw_copy, run_prepare, tables

RAW = FIXTURES / "must_c"
TXT = "en-de/data/train/txt/train"


def prepare(output, *argv, root=RAW):
    run_prepare("must_c", "--downloads", root, "--output", output, "--nj", 1, *argv)


def test_the_fixture_becomes_the_expected_directories(tmp_path):
    prepare(tmp_path)
    check_expected(tmp_path, "must_c", RAW)
    for name in ("train", "dev", "tst-COMMON", "tst-HE"):
        validate_data_dir(tmp_path / f"{name}.en-de")


def test_a_second_run_and_more_processes_change_nothing(tmp_path):
    prepare(tmp_path, "--text_form", "moses")
    before = tables(tmp_path)
    prepare(tmp_path, "--text_form", "moses", "--nj", 3)
    assert tables(tmp_path) == before


def test_fairseq_ids_count_the_segments_of_a_talk_by_offset(tmp_path):
    prepare(tmp_path, "--ids", "fairseq")
    train = tmp_path / "train.en-de"
    assert read_table(train / "text") == {
        "ted_901_0": "we draw a box applause",
        "ted_901_1": "yes",
        "ted_901_2": "it is a long long way",
        "ted_9_0": "oh",
        "ted_9_1": "don't go stay",
    }
    spans = {
        key: (each.start_s, each.end_s) for key, each in read_segments(train / "segments").items()
    }
    assert spans["ted_9_0"] == (0.02, 0.07) and spans["ted_901_1"] == (1.5, 1.6)  # not widened
    assert set(read_table(train / "wav.scp")) == {"ted_901", "ted_9"}
    validate_data_dir(train)


def test_offsets_are_ordered_as_numbers(tmp_path):
    root = raw_copy("must_c", tmp_path)
    path = root / f"{TXT}.yaml"
    path.write_text(
        path.read_text().replace("offset: 0.5,", "offset: 10.5,").replace("0.02", "9.1")
    )
    talk = [segment for segment in read_talk_segments(path, 1, None) if segment.talk == 9]
    assert [segment.offset_s for segment in talk] == [10.5, 9.1]
    prepare(tmp_path / "data", "--ids", "fairseq", "--max_rejected", 50, root=root)
    rejected = read_rejected(tmp_path / "data/train.en-de/rejected.tsv")
    assert [(each.utterance, each.line) for each in rejected] == [("ted_9_0", 5), ("ted_9_1", 4)]
    assert "ted_9.wav: 1.300 s long" in rejected[0].reason


def forms_of(directory, key):
    return {
        path.name.removeprefix("text."): read_table(path)[key] for path in directory.glob("text.*")
    }


def test_moses_form_is_tokenised_and_keeps_the_raw_text(tmp_path):
    prepare(tmp_path, "--text_form", "moses")
    train = tmp_path / "train.en-de"
    assert forms_of(train, "ted_00901_0000250_0001250") == {
        "raw.en": "We draw — a box. (Applause)",
        "tc.en": "We draw - a box . ( Applause )",
        "lc.en": "we draw - a box . ( applause )",
        "lc.rm.en": "we draw a box applause",
        "raw.de": "Wir zeichnen eine Kiste. (Applaus)",
        "tc.de": "Wir zeichnen eine Kiste . ( Applaus )",
        "lc.de": "wir zeichnen eine kiste . ( applaus )",
        "lc.rm.de": "wir zeichnen eine kiste applaus",
    }
    assert forms_of(train, "ted_00009_0000500_0001250")["lc.rm.en"] == "don 't go stay"
    assert (train / "text").read_bytes() == (train / "text.lc.rm.en").read_bytes()


def test_the_text_of_recognition_has_a_case_of_its_own(tmp_path):
    prepare(tmp_path, "--text_case", "tc")
    train = tmp_path / "train.en-de"
    assert (train / "text").read_bytes() == (train / "text.tc.en").read_bytes()


def test_another_language_pair_is_an_option(tmp_path):
    root = raw_copy("must_c", tmp_path)
    (root / "en-de").rename(root / "en-nl")
    for path in root.rglob("*.de"):
        path.rename(path.with_suffix(".nl"))
    prepare(tmp_path / "data", "--tgt_lang", "nl", root=root)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "dev.en-nl",
        "train.en-nl",
        "tst-COMMON.en-nl",
        "tst-HE.en-nl",
    ]
    assert (tmp_path / "data/dev.en-nl/text.tc.nl").is_file()


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--tgt_lang", "xx"], 2, f"--tgt_lang xx: {RAW} has de"),
        (["--ids", "kaldi"], 2, "--ids must be one of espnet, fairseq, not 'kaldi'"),
        (["--text_form", "tok"], 2, "--text_form must be one of raw, moses, not 'tok'"),
        (["--text_case", "uc"], 2, "--text_case must be one of tc, lc, lc.rm, not 'uc'"),
        (["--downloads", "/none"], 1, "/none/en-de: no such file or directory: does MUST_C name"),
    ],
)
def test_a_wrong_option_or_root_is_one_line(tmp_path, argv, code, message):
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "data", *argv)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert error.value.exit_code == code
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (".yaml", b"wav: ted_9.wav}\n- {d", b"wav: ted_9.wav\n- {d", ".yaml:5: not valid YAML"),
        (".yaml", b"duration: 0.75", b"duration: long", ".yaml:4: duration must be a number"),
        (".yaml", b"duration: 0.75", b"duration: .nan", ".yaml:4: duration must be a number"),
        (".yaml", b"duration: 0.75", b"duration: 1.0e+308", ".yaml:4: duration must be a number"),
        (".yaml", b"offset: 0.5", b"offset: .inf", ".yaml:4: offset must be a number of seconds"),
        (".yaml", b"offset: 0.5,", b"", ".yaml:4: offset must be a number of seconds, not None"),
        (".yaml", b"offset: 0.5", b"offset: -0.5", ".yaml:4: offset must be a number of seconds"),
        (".yaml", b"wav: ted_9.wav", b"wav: 9.wav", ".yaml:4: wav must be `ted_<number>.wav`"),
        (".yaml", b"- {duration: 1.0", b"x\n- {duration: 1.0", ".yaml:1: not the start of a segm"),
        (".yaml", b"- {duration: 0.05", b"- duration\n- {duration: 0.05", ".yaml:5: a segment is"),
        (".yaml", b"uW: 0", b"uW: \xff", ".yaml:1: not UTF-8 text (byte 44"),
        (".de", b"Ja.", b"J\xe4.", ".de:2: not UTF-8 text (byte 2"),
        (".en", b"Yes.\n", b"", "train.yaml has 5 segments, train.en 4 lines, train.de 5 lines: "),
        (".de", b"Ja.\n", b"Ja.\n\n", "train.en 5 lines, train.de 6 lines: they must agree"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, old, new, message):
    root = raw_copy("must_c", tmp_path)
    path = root / f"{TXT}{file}"
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "data", root=root)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("part", ["tst-HE", "dev/txt/dev.de", "train/txt/train.yaml"])
def test_a_partial_corpus_is_named(tmp_path, part):
    root = raw_copy("must_c", tmp_path)
    path = root / "en-de/data" / part
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{path.name}: no such file or directory"):
        prepare(tmp_path / "data", root=root)


def test_segments_of_one_id_and_without_audio_are_listed(tmp_path):
    root = raw_copy("must_c", tmp_path)
    path = root / f"{TXT}.yaml"
    path.write_text(path.read_text().replace("1.5, duration: 0.1", "0.25, duration: 1.0"))
    (root / "en-de/data/train/wav/ted_9.wav").unlink()
    prepare(tmp_path / "data", "--max_rejected", 90, root=root)
    train = tmp_path / "data/train.en-de"
    assert list(read_table(train / "text")) == ["ted_00901_0001750_0003650"]
    assert list(read_table(train / "wav.scp")) == ["ted_00901"]
    reasons = [(each.line, each.reason) for each in read_rejected(train / "rejected.tsv")]
    missing = (
        f"{root}/en-de/data/train/wav/ted_9.wav: no such file (1 of the 2 audio files are bad)"
    )
    assert reasons == [
        (5, missing),
        (4, missing),
        (1, "several segments have this id"),
        (2, "several segments have this id"),
    ]
    with pytest.raises(UserError, match=r"rejected.tsv: 3 of 4 utterances rejected \(75 %"):
        prepare(tmp_path / "data", root=root)
    assert not (train / "wav.scp").exists()


items = st.lists(
    st.fixed_dictionaries(
        {
            "duration": st.floats(0.2, 30),
            "offset": st.one_of(st.integers(0, 99), st.floats(0, 999)),
            "wav": st.integers(1, 9999).map("ted_{}.wav".format),
        },
        optional={"rW": st.integers(0, 9), "uW": st.integers(0, 9), "speaker_id": st.just("spk.1")},
    ),
    max_size=12,
)


@given(items, st.booleans(), st.booleans())
def test_lists_are_read_in_every_style(tmp_path_factory, segments, flow, sort):
    path = tmp_path_factory.mktemp("yaml") / "train.yaml"
    dumped = (
        "".join(
            f"- {yaml.safe_dump(each, default_flow_style=True, width=9999, sort_keys=sort)}"
            for each in segments
        )
        if flow
        else yaml.safe_dump(segments, sort_keys=sort) * bool(segments)
    )
    path.write_text(dumped)
    found = read_talk_segments(path, 1, None)
    assert [(each.wav, each.offset_s, each.duration_s) for each in found] == [
        (each["wav"], float(each["offset"]), each["duration"]) for each in segments
    ]
    lines = dumped.split("\n")
    assert all(lines[each.line - 1].startswith("-") for each in found)
