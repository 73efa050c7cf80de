"""Times of tokens and words, in a whole recording and in one that is cut."""

import json

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.cli import main
from mtla_espnet.files import UserError
from mtla_espnet.inference.from_files import align_recording, decode_recordings, load
from mtla_espnet.inference.times import check_times, words_of

RATE_HZ = 8000
OPTIONS = {"beam_size": 3, "maxlenratio": -8}


def char_text(tokens):
    return "".join(" " if token == "<space>" else token for token in tokens)


def piece_text(tokens):
    return "".join(tokens).replace("▁", " ").removeprefix(" ")


@given(st.lists(st.sampled_from(["a", "b", "<space>"])))
def test_words_of_letters_are_those_of_the_text(tokens):
    words = words_of(tokens, char_text)
    assert [word for word, _ in words] == char_text(tokens).split()
    for word, places in words:
        assert char_text(tokens[places[0] : places[-1] + 1]) == word


@given(st.lists(st.sampled_from(["a", "bc", "▁", "▁d", "▁ef"])))
def test_words_of_pieces_are_those_of_the_text(tokens):
    words = words_of(tokens, piece_text)
    assert [word for word, _ in words] == piece_text(tokens).split()
    for word, places in words:
        assert piece_text(tokens[places[0] : places[-1] + 1]).strip() == word


@pytest.fixture(scope="module")
def wave():
    random = np.random.default_rng(0)
    return (0.3 * np.sin(np.arange(20_000) * 0.3) + random.normal(0, 0.05, 20_000)).astype("f4")


@pytest.fixture
def recording(wave, tmp_path):
    """Three times the same 2.5 s, with pauses of 0.5 s."""
    path = tmp_path / "a b.wav"
    pause = np.zeros(RATE_HZ // 2, dtype="f4")
    soundfile.write(path, np.concatenate([wave, pause] * 3), RATE_HZ, subtype="FLOAT")
    return path


@pytest.fixture
def without_ctc(make_model, tmp_path):
    more = {"model_conf": {"ctc_weight": 0.0}}
    return make_model(tmp_path / "recipe", "no_ctc", "decoder_only", more, attention="mha")


def in_order(times, start_s, end_s):
    edges = [edge for each in times for edge in (each.start_s, each.end_s)]
    assert edges == sorted(edges)
    assert start_s <= edges[0] and edges[-1] <= end_s + 1e-9
    assert all(0 <= each.confidence <= 1 for each in times)


@pytest.mark.espnet
class TestTimes:
    def decode(self, model, path, **more):
        found = decode_recordings(
            "asr", model.directory, [path], options=OPTIONS, device="cpu", **more
        )
        return list(found)

    def test_of_a_cut_recording_they_are_those_of_the_whole_file(self, model, recording):
        pieces = self.decode(model, recording, longest_s=3.5, times="token")
        plain = self.decode(model, recording, longest_s=3.5)
        assert [piece.text for piece in pieces] == [piece.text for piece in plain]
        assert [piece.times for piece in plain] == [()] * 3
        tokenizer = load("asr", model.directory).tokenizer
        for piece in pieces:
            assert tokenizer.tokens2text([each.text for each in piece.times]) == piece.text
            in_order(piece.times, piece.start_s, piece.end_s)
        words = self.decode(model, recording, longest_s=3.5, times="word")
        for piece, of_words in zip(pieces, words, strict=True):
            assert [word.text for word in of_words.times] == piece.text.split()
            in_order(of_words.times, piece.start_s, piece.end_s)

    def test_a_known_text_is_aligned_with_all_pieces_at_once(self, model, recording):
        text = "abc dab ogo"
        options = {"device": "cpu", "longest_s": 3.5}
        piece = align_recording(model.directory, recording, text, **options)
        assert [word.text for word in piece.times] == text.split()
        in_order(piece.times, 0.0, 9.0)
        assert (piece.start_s, piece.end_s, piece.whole) == (0.0, 9.0, True)
        tokens = align_recording(model.directory, recording, text, times="token", **options)
        assert "".join(token.text for token in tokens.times) == text.replace(" ", "<space>")

    def test_commands(self, model, recording, tmp_path, capsys):
        config = tmp_path / "decode.yaml"
        config.write_text(json.dumps(OPTIONS))
        text = tmp_path / "text.txt"
        text.write_text("abc\n dab")
        align = ["align", str(model.directory), str(recording), "--device", "cpu"]
        for words in (str(text), "abc dab"):
            assert main([*align, words, "--format", "ctm"]) == 0
            lines = capsys.readouterr().out.splitlines()
            assert [line.split()[4] for line in lines] == ["abc", "dab"]
            assert {line.split()[0] for line in lines} == {"a_b"}
        call = ["transcribe", "--model", str(model.directory), "--device", "cpu"]
        call += ["--inference_config", str(config), "--longest", "3.5"]
        pieces = self.decode(model, recording, longest_s=3.5, times="word")
        assert main([*call, str(recording), "--json", "--times", "word"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [[each["text"] for each in line["times"]] for line in lines] == [
            piece.text.split() for piece in pieces
        ]
        # CTM implies times; a list of files, and a file for each
        copy = tmp_path / "c.wav"
        copy.write_bytes(recording.read_bytes())
        files = tmp_path / "list.txt"
        files.write_text(f"{recording}\n\n{copy}\n")
        more = ["--files", str(files), "--output_dir", str(tmp_path / "out")]
        assert main([*call, *more, "--format", "ctm", "--batch_size", "2"]) == 0
        assert capsys.readouterr().out == ""
        for name in ("a b", "c"):
            lines = (tmp_path / "out" / f"{name}.ctm").read_text().splitlines()
            words = [word for piece in pieces for word in piece.text.split()]
            assert [line.split()[4] for line in lines] == words

    def test_files_that_would_take_one_name(self, model, recording, tmp_path, capsys):
        other = tmp_path / "b" / recording.name
        other.parent.mkdir()
        other.write_bytes(recording.read_bytes())
        call = ["transcribe", "--model", str(model.directory), str(recording), str(other)]
        call += ["--format", "srt", "--beam_size", "1"]
        assert main([*call, "--output_dir", str(tmp_path / "out")]) == 1
        assert "a b.srt is that of" in capsys.readouterr().err
        assert main(call) == 1
        assert "--format srt is one file a recording: give --output_dir" in capsys.readouterr().err

    def test_mistakes(self, model, recording, tmp_path, capsys):
        align = ["align", str(model.directory), str(recording)]
        for words, message in {
            "abz": "a b.wav: the model has no tokens for 'z': write the text as it was trained",
            "ab " * 200: "a b.wav: 600 tokens need 600 frames of the encoder, and it makes 2",
            str(tmp_path / "none.txt"): "none.txt: no such file",
        }.items():
            assert main([*align, words]) == 1
            error = capsys.readouterr().err
            assert message in error and error.count("\n") == 1
        call = ["transcribe", "--model", str(model.directory)]
        assert main(call) == 2
        assert "name files to decode, or a list of them" in capsys.readouterr().err
        assert main([*call, str(recording), "--batch_size", "0"]) == 1
        assert "batch_size is 1 or more, not 0" in capsys.readouterr().err
        assert main([*call, str(recording), "--json", "--format", "srt"]) == 2
        assert "--json and --format srt: give one" in capsys.readouterr().err
        assert main([*call, str(recording), "--times", "token", "--format", "ctm"]) == 2
        assert "--format ctm needs the times of words" in capsys.readouterr().err
        (tmp_path / "empty.txt").write_text("\n")
        assert main([*call, "--files", str(tmp_path / "empty.txt")]) == 1
        assert "empty.txt: names no file" in capsys.readouterr().err

    def test_a_model_without_ctc(self, without_ctc, recording, capsys):
        with pytest.raises(UserError, match="^x: times are found by CTC .*the model has none"):
            check_times(load("asr", without_ctc.directory), "x")
        assert main(["align", str(without_ctc.directory), str(recording), "ab"]) == 1
        error = capsys.readouterr().err
        assert f"error: {without_ctc.directory}: times are found by CTC" in error
        assert error.count("\n") == 1
