"""Recordings and documents in files, by Python and by the command line."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr

from mtla_espnet.cli import main
from mtla_espnet.files import UserError
from mtla_espnet.inference.from_files import decode_recordings, load
from mtla_espnet.inference.speech2text import Speech2Text

pytestmark = pytest.mark.espnet

RATE_HZ = 8000
OPTIONS = {"beam_size": 3, "maxlenratio": -8}


def recognise(model, paths, **options):
    found = decode_recordings(
        "asr", model.directory, paths, options=OPTIONS, device="cpu", **options
    )
    return list(found)


def loaded(model):
    return Speech2Text.from_pretrained(model.directory, **OPTIONS)


@pytest.fixture(scope="module")
def wave():
    random = np.random.default_rng(0)
    return (0.3 * np.sin(np.arange(20_000) * 0.3) + random.normal(0, 0.05, 20_000)).astype("f4")


def test_any_format_and_channels(model, wave, tmp_path):
    same, other = tmp_path / "same.wav", tmp_path / "other.flac"
    soundfile.write(same, wave, RATE_HZ, subtype="FLOAT")
    # Mixed: the first channel alone would be silence.
    stereo = np.stack([np.zeros_like(wave), 2 * wave], axis=1)
    soundfile.write(other, stereo, RATE_HZ, subtype="PCM_24")
    found = recognise(model, [same, other])
    assert [piece.path for piece in found] == [same, other]
    assert [piece.name for piece in found] == [str(same), str(other)]
    assert found[0].text == found[1].text == loaded(model)(wave)[0][0] != ""
    assert (found[0].start_s, found[0].end_s) == (0.0, 2.5)


def test_short_recordings_share_a_batch(model, wave, tmp_path, monkeypatch):
    sizes, original = [], Speech2Text.decode_prepared

    def decode(self, waves):
        sizes.append(len(waves))
        return original(self, waves)

    monkeypatch.setattr(Speech2Text, "decode_prepared", decode)
    paths = [tmp_path / f"{number}.wav" for number in range(9)]
    for number, path in enumerate(paths):
        soundfile.write(path, wave[: 8_000 + 1_200 * number], RATE_HZ, subtype="FLOAT")
    found = recognise(model, paths)
    assert sizes == [8, 1]
    assert [piece.path for piece in found] == paths
    for piece in found[::4]:
        assert piece.text == recognise(model, [piece.path])[0].text


def test_another_rate_is_resampled(model, wave, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Speech2Text, "decode_prepared", lambda self, inputs: seen.extend(inputs) or [[]]
    )
    path = tmp_path / "a.wav"
    soundfile.write(path, np.repeat(wave, 2), 2 * RATE_HZ, subtype="FLOAT")
    (piece,) = recognise(model, [path])
    assert (piece.text, piece.end_s) == ("", 2.5)
    assert len(seen[0]["speech"]) == len(wave)


def test_a_long_recording_is_cut_at_its_pauses_and_keeps_its_times(model, wave, tmp_path):
    pause = np.zeros(RATE_HZ // 2, dtype="f4")
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([wave, pause] * 3), RATE_HZ, subtype="FLOAT")
    found = recognise(model, [path], longest_s=3.5)
    assert len(found) == 3
    assert [piece.whole for piece in found] == [False] * 3
    assert (found[0].start_s, found[-1].end_s) == (0.0, 9.0)
    for piece, after in zip(found, found[1:], strict=False):
        assert piece.end_s == after.start_s
        assert 2.5 <= piece.end_s % 3.0 <= 3.0
    samples, _ = soundfile.read(path, dtype="float32")
    for piece in found:
        part = samples[round(piece.start_s * RATE_HZ) : round(piece.end_s * RATE_HZ)]
        assert piece.text == loaded(model)(part)[0][0]
    fixed = recognise(model, [path], longest_s=4.0, cut_at="length")
    assert [(piece.start_s, piece.end_s) for piece in fixed] == [(0, 4), (4, 8), (8, 9)]
    assert len(recognise(model, [path], longest_s=4.0, cut_at="none")) == 1


def test_the_command_line(model, wave, tmp_path, capsys):
    path, config = tmp_path / "a.wav", tmp_path / "decode.yaml"
    soundfile.write(path, np.tile(wave, 2), RATE_HZ, subtype="FLOAT")
    config.write_text("beam_size: 20\nmaxlenratio: -8\nctc_weight: 0.5\n")
    call = ["transcribe", "--model", str(model.directory), "--inference_config", str(config)]
    call += ["--beam_size", "3", "--device", "cpu", "--longest", "2.5", "--cut", "length"]
    assert main([*call, str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = loaded(model)([wave, wave])[0][0][0]
    assert lines == [f"{path} 0.00-2.50: {expected}", f"{path} 2.50-5.00: {expected}"]
    assert main([*call, "--json", str(path)]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first == {"file": str(path), "start_s": 0.0, "end_s": 2.5, "text": expected}


def test_a_model_on_a_pretrained_encoder_finds_its_folder(on_whisper, wave, tmp_path, capsys):
    model, folder = on_whisper
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.stack([np.zeros(88_200), np.resize(wave, 88_200)], 1), 44_100)
    options = {"beam_size": 3, "ctc_weight": 0.3, "minlenratio": -3, "maxlenratio": -8}
    config = tmp_path / "decode.yaml"
    config.write_text(json.dumps(options))
    call = ["transcribe", "--model", str(model.directory), "--inference_config", str(config)]
    assert main([*call, "--device", "cpu", str(path)]) == 0
    samples, rate_hz = soundfile.read(path, dtype="float32")
    mixed = soxr.resample(samples.mean(axis=1), rate_hz, 16_000)
    expected = Speech2Text.from_pretrained(model.directory, **options)(mixed)[0][0]
    assert expected and capsys.readouterr().out == f"{path}: {expected}\n"
    folder.rename(tmp_path / "elsewhere")
    assert main([*call, str(path)]) == 1
    error = capsys.readouterr().err
    assert "downloads/whisper" in error and len(error.splitlines()) == 1


class TestDecodingConfiguration:
    """Every use of a model decodes as its recipe did, unless told otherwise."""

    @pytest.fixture
    def kept(self, model):
        path = model.directory / "inference.yaml"
        path.write_text("beam_size: 4\nctc_weight: 0.25\nmaxlenratio: -7\n")
        yield path
        path.unlink()

    def options(self, found):
        return found.options.beam_size, found.options.ctc_weight, found.options.maxlenratio

    def test_without_one_defaults_are_one_set(self, model):
        for found in (
            load("asr", model.directory),
            Speech2Text.from_pretrained(model.directory),
            Speech2Text(model.config_file, model.file),
        ):
            assert self.options(found) == (20, 0.5, 0.0)

    def test_that_which_is_kept_is_used_and_explicit_options_win(self, model, kept, tmp_path):
        assert self.options(load("asr", model.directory)) == (4, 0.25, -7)
        more = {"beam_size": 3}
        assert self.options(load("asr", model.directory, None, more)) == (3, 0.25, -7)
        found = Speech2Text.from_pretrained(model.directory, ctc_weight=0.0)
        assert self.options(found) == (4, 0.0, -7)
        other = tmp_path / "decode.yaml"
        other.write_text("ctc_weight: 0.75\n")
        assert self.options(load("asr", model.directory, other, more)) == (3, 0.75, 0.0)

    def test_a_wrong_one_is_named(self, model, kept):
        kept.write_text("beam: 4\n")
        with pytest.raises(UserError, match=r"inference.yaml: .*beam"):
            load("asr", model.directory)
        kept.write_text("lm_train_config: exp/lm/config.yaml\n")
        with pytest.raises(UserError, match=r"exp/lm/config.yaml is not there: .*Stage 14 packs"):
            load("asr", model.directory)


class TestManyFiles:
    @pytest.fixture
    def calls(self, wave, tmp_path):
        names = ("a.wav", "b/c.FLAC", "b/d.ogg", "b/.hidden.wav", ".git/e.wav", "b/notes.txt")
        for name in names:
            path = tmp_path / "calls" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("txt"):
                path.write_text("not audio")
            else:
                soundfile.write(path, wave, RATE_HZ)
        return tmp_path / "calls"

    def names(self, found, calls):
        return [str(piece.path.relative_to(calls)) for piece in found]

    def test_a_directory_and_a_pattern(self, model, calls):
        assert self.names(recognise(model, [calls]), calls) == ["a.wav", "b/c.FLAC", "b/d.ogg"]
        pattern = calls / "b" / "*.[Fo]*"
        assert self.names(recognise(model, [pattern]), calls) == ["b/c.FLAC", "b/d.ogg"]
        with pytest.raises(UserError, match=r"calls/\*.mp3: no file has such a name"):
            recognise(model, [calls / "*.mp3"])
        (calls / "empty").mkdir()
        with pytest.raises(UserError, match="empty: no file in it is one of .aac, "):
            recognise(model, [calls / "empty"])

    def test_standard_input(self, model, calls, wave, monkeypatch, capsys):
        expected = recognise(model, [calls / "a.wav"])[0].text
        for content, code in ((calls / "a.wav").read_bytes(), 0), (b"not audio", 1), (b"", 1):
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
            call = ["transcribe", "--model", str(model.directory), "--device", "cpu"]
            config = calls / "decode.yaml"
            config.write_text(json.dumps(OPTIONS))
            assert main([*call, "--inference_config", str(config), "-"]) == code
            captured = capsys.readouterr()
            if code:
                assert captured.err.startswith("error: -: ") and captured.err.count("\n") == 1
            else:
                assert captured.out == f"-: {expected}\n"

    def test_a_bad_one_costs_itself_alone(self, model, calls, capsys, caplog):
        (calls / "bad.wav").write_text("not audio")
        (calls / "empty.wav").touch()
        config = calls / "decode.yaml"
        config.write_text(json.dumps(OPTIONS))
        call = ["transcribe", "--model", str(model.directory), "--inference_config", str(config)]
        assert main([*call, str(calls), str(calls / "none.wav")]) == 1
        captured = capsys.readouterr()
        assert [line.split(":")[0] for line in captured.out.splitlines()] == [
            str(calls / name) for name in ("a.wav", "b/c.FLAC", "b/d.ogg")
        ]
        bad = [str(calls / name) for name in ("bad.wav", "empty.wav", "none.wav")]
        for name in bad:
            assert f"{name}: " in caplog.text
        assert captured.err.endswith(f"error: 3 of 6 files could not be used: {', '.join(bad)}\n")

    def test_a_recording_of_scores_that_are_no_numbers(self, model, calls, monkeypatch):
        original = Speech2Text.decode_prepared

        def decode(self, inputs):
            return [UserError("its scores are not finite numbers"), *original(self, inputs)[1:]]

        monkeypatch.setattr(Speech2Text, "decode_prepared", decode)
        found = decode_recordings("asr", model.directory, [calls], options=OPTIONS, device="cpu")
        with pytest.raises(UserError, match="1 of 3 files could not be used: .*a.wav$"):
            found_names = []
            for piece in found:
                found_names.append(piece.path.name)
        assert found_names == ["c.FLAC", "d.ogg"]

    @pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
    def test_an_output_that_is_not_utf_8_gets_escaped_letters(self, encoding, tmp_path):
        name = tmp_path / "日本 é.wav"
        command = [sys.executable, "-m", "mtla_espnet", "transcribe", "--model", "m", str(name)]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True
        )
        assert done.returncode == 1
        told = str(name).encode(encoding, "backslashreplace")
        assert done.stderr == b"error: " + told + b": no such file\n"


class TestMistakes:
    """Each is one line that names the file; nothing is loaded before."""

    def test_recordings(self, model, wave, tmp_path):
        with pytest.raises(UserError, match="none.wav: no such file"):
            recognise(model, [tmp_path / "none.wav"])
        (tmp_path / "text.wav").write_text("not audio")
        with pytest.raises(UserError, match="text.wav: cannot be read as audio"):
            recognise(model, [tmp_path / "text.wav"])
        soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE_HZ)
        with pytest.raises(UserError, match="empty.wav: "):
            recognise(model, [tmp_path / "empty.wav"])

    def test_pieces_too_short(self, wave, tmp_path):
        soundfile.write(tmp_path / "a.wav", wave, RATE_HZ)
        found = decode_recordings("asr", tmp_path / "no_model", [tmp_path / "a.wav"], longest_s=0.1)
        with pytest.raises(UserError, match=r"a piece is at least 0\.4 s long, not 0\.1"):
            list(found)

    def test_an_unknown_option_of_a_configuration(self, tmp_path, capsys):
        config = tmp_path / "decode.yaml"
        config.write_text("beam: 3\n")
        call = ["transcribe", "--model", "m", "--inference_config", str(config), "a.wav"]
        assert main(call) == 1
        assert "decode.yaml: " in capsys.readouterr().err

    def test_a_model_of_another_task(self, model, tmp_path, capsys):
        path = tmp_path / "a.txt"
        path.write_text("some words")
        assert main(["summarise", "--model", str(model.directory), str(path)]) == 1
        error = capsys.readouterr().err
        assert str(model.directory) in error and len(error.splitlines()) == 1

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b" \n", "the document is empty"), (b"\xff\xfe", "not UTF-8 text"), (None, "no such fi")],
    )
    def test_documents(self, tmp_path, capsys, content, message):
        path = tmp_path / "a.txt"
        if content is not None:
            path.write_bytes(content)
        assert main(["summarise", "--model", str(tmp_path), str(path)]) == 1
        assert f"error: {path}: {message}" in capsys.readouterr().err
