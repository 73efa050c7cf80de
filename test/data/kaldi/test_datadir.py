import logging

import pytest

from mtla_espnet.data.kaldi.datadir import Segment, read_segments, validate_data_dir, write_data_dir
from mtla_espnet.files import UserError


@pytest.fixture
def data_dir(tmp_path):
    utterances = {"anna-1": "GO", "anna-2": "STOP", "ben-1": "YES"}
    write_data_dir(
        tmp_path,
        wav_scp={utterance: f"wav/{utterance}.wav" for utterance in utterances},
        text=utterances,
        utt2spk={utterance: utterance.split("-")[0] for utterance in utterances},
    )
    return tmp_path


def check_message(data_dir, name, content, message):
    (data_dir / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        validate_data_dir(data_dir)
    assert str(error.value).startswith(str(data_dir))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_written_directory_is_valid(data_dir, caplog):
    with caplog.at_level(logging.INFO):
        validate_data_dir(data_dir)
    assert caplog.messages == [f"Successfully validated data-directory {data_dir}"]
    assert (data_dir / "spk2utt").read_text() == "anna anna-1 anna-2\nben ben-1\n"


@pytest.mark.parametrize("name", ["utt2spk", "spk2utt", "text", "wav.scp"])
def test_each_file_must_exist_and_have_entries(data_dir, name):
    check_message(data_dir, name, "", f"{name}: empty file")
    (data_dir / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        validate_data_dir(data_dir)


def test_audio_and_text_may_be_left_out(data_dir):
    (data_dir / "text").unlink()
    (data_dir / "wav.scp").unlink()
    validate_data_dir(data_dir, audio=False, text=False)
    with pytest.raises(UserError, match="text: no such file"):
        validate_data_dir(data_dir, audio=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("utt2spk", "anna-1 anna\nanna-2 zoe\nben-1 ben\n", "utt2spk:3: utt2spk is not in sorted"),
        ("utt2spk", "anna-1 anna b\nben-1 ben\n", "utt2spk:1: 'anna-1' needs one speaker"),
        ("utt2spk", "anna-1 anna\nanna-2\n", "utt2spk:2: nothing follows id 'anna-2'"),
        ("spk2utt", "anna anna-1\nben ben-1\n", "do not seem to match: they give speaker 'anna'"),
        ("spk2utt", "anna anna-1 anna-2\n", "do not seem to match: they give speaker 'ben'"),
        ("text", "anna-1 GO\nben-1 <s> A\nben-2 B\n", "illegal symbol '<s>' in 'ben-1'"),
        ("text", "anna-1 A\u00a0B\n", "text:1: text of 'anna-1' has the space character U+00A0"),
        ("text", "anna-1 A\x00B\n", "text:1: text of 'anna-1' has the invisible character U+0000"),
        ("text", "anna-1 A\u009bB\n", "has the invisible character U+009B: remove it"),
        ("text", "anna-1 A \ufeffB\n", "has the invisible character U+FEFF: remove it"),
        (
            "text",
            "anna-1 GO\ncarl-1 HI\n",
            "utterance lists extracted from utt2spk and text differ: only in utt2spk: anna-2, "
            "ben-1; only in text: carl-1 (lengths 3 and 2)",
        ),
        ("wav.scp", "anna-1 a.wav\n", "from utt2spk and wav.scp differ: only in utt2spk: anna-2"),
        ("wav.scp", "anna-1 sox a.wav -t wav - |\n", "wav.scp:1: 'anna-1' is a command"),
        ("wav.scp", "anna-1 ~/a.wav\n", "wav.scp:1: 'anna-1' starts with '~'"),
    ],
)
def test_a_bad_file_is_named_with_line_or_id(data_dir, name, content, message):
    check_message(data_dir, name, content, message)


def test_an_empty_transcript_is_valid(data_dir):
    (data_dir / "text").write_text("anna-1\nanna-2 STOP\nben-1 YES\n")
    validate_data_dir(data_dir)


def test_one_speaker_is_a_warning(tmp_path, caplog):
    write_data_dir(tmp_path, {"a-1": "x.wav"}, {"a-1": "GO"}, {"a-1": "a"})
    validate_data_dir(tmp_path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_segments_are_read(tmp_path):
    (tmp_path / "segments").write_text("utt1 rec1 0.00 2.90\nutt2 rec1 3 4.5\n")
    assert read_segments(tmp_path / "segments") == {
        "utt1": Segment("rec1", 0.0, 2.9),
        "utt2": Segment("rec1", 3.0, 4.5),
    }


@pytest.mark.parametrize("fields", ["rec 1", "rec 1 2 3", "rec 2 2", "rec 3 -1", "rec -1 2",
                                    "rec a 2", "rec nan 2", "rec 0 inf", "rec 0 1e99"])  # fmt: skip
def test_a_bad_segment_is_named(tmp_path, fields):
    path = tmp_path / "segments"
    path.write_text(f"utt0 rec 0 1\nutt1 {fields}\n")
    with pytest.raises(UserError) as error:
        read_segments(path)
    assert str(error.value).startswith(f"{path}:2: badly formatted segments file: 'utt1'")


def test_segments_must_fit_the_other_files(data_dir):
    (data_dir / "wav.scp").write_text("rec1 a.wav\n")
    segments = "anna-1 rec1 0 1\nanna-2 rec1 1 2\n"
    check_message(data_dir, "segments", segments, "from utt2spk and segments differ: only in utt")
    segments += "ben-1 rec2 0 1\n"
    check_message(data_dir, "segments", segments, "segments:3: 'ben-1' is cut from 'rec2'")
    (data_dir / "segments").write_text(segments.replace("rec2", "rec1"))
    validate_data_dir(data_dir)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such directory"):
        validate_data_dir(tmp_path / "nowhere")
