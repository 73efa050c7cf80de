"""Pieces between pauses: of a recording at once, and of a stream however it comes."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.cli import main
from mtla_espnet.inference.from_files import decode_recordings
from mtla_espnet.inference.live import recognise_live
from mtla_espnet.inference.speech_activity import (
    WINDOW,
    SpeechCutter,
    by_loudness,
    by_silero,
    speech_bounds,
    stream_pieces,
)

RATE_HZ = 8000
OPTIONS = {"beam_size": 3, "maxlenratio": -8}
has_silero = pytest.mark.skipif(
    importlib.util.find_spec("silero_vad") is None, reason="needs silero-vad"
)


def noise(*parts):
    """Return noise in stretches of (seconds, level)."""
    random = np.random.default_rng(0)
    return np.concatenate(
        [random.normal(0, level, round(RATE_HZ * s)) for s, level in parts]
    ).astype(np.float32)


@pytest.fixture(scope="module")
def talk():
    """Two loud stretches, at 1 and 4 s."""
    return noise((1, 1e-3), (1.5, 0.1), (1.5, 1e-3), (2, 0.1), (1, 1e-3))


def test_pieces_are_the_loud_stretches_with_margins(talk):
    found = list(SpeechCutter(RATE_HZ, 20.0, by_loudness()).feed(talk, last=True))
    assert [start / RATE_HZ for start, _ in found] == pytest.approx([0.8, 3.8], abs=0.07)
    assert [len(piece) / RATE_HZ for _, piece in found] == pytest.approx([1.9, 2.4], abs=0.1)
    for start, piece in found:
        assert np.array_equal(piece, talk[start : start + len(piece)])


@settings(max_examples=10)
@given(st.lists(st.integers(1, 9000), min_size=1, max_size=12))
def test_a_stream_is_cut_alike_however_it_comes(sizes):
    samples = noise((0.3, 1e-3), (0.7, 0.1), (0.8, 1e-3), (3.2, 0.1), (0.2, 1e-3))
    edges = np.cumsum([0, *sizes]).clip(0, len(samples))
    chunks = [samples[a:b] for a, b in zip(edges, [*edges[1:], len(samples)], strict=True)]
    whole = list(stream_pieces([samples], RATE_HZ, 1.5, by_loudness()))
    parts = list(stream_pieces(chunks, RATE_HZ, 1.5, by_loudness()))
    assert [start for start, _ in parts] == [start for start, _ in whole]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(parts, whole, strict=True))
    assert all(len(piece) <= 1.5 * RATE_HZ + WINDOW for _, piece in whole)
    assert len(whole) >= 4


def test_silence_has_no_pieces(talk):
    assert len(speech_bounds(talk, RATE_HZ, 10.0, by_loudness())) == 2
    assert speech_bounds(noise((2, 1e-6)), RATE_HZ, 10.0, by_loudness()) == []


@has_silero
def test_silero_vad_decides_as_its_own_package_does():
    from silero_vad import get_speech_timestamps, load_silero_vad

    threads = torch.get_num_threads()
    speaks = by_silero()
    assert torch.get_num_threads() == threads
    samples = np.random.default_rng(0).normal(0, 0.1, 40 * WINDOW).astype(np.float32)
    windows = [speaks(samples[n : n + WINDOW]) for n in range(0, len(samples), WINDOW)]
    peer = get_speech_timestamps(torch.from_numpy(samples), load_silero_vad())
    assert any(windows) == bool(peer)
    assert speech_bounds(samples, 16000, 20.0, by_silero()) == []


@pytest.mark.espnet
class TestLive:
    def test_a_pipe_is_recognised_piece_by_piece_before_it_ends(self, model, talk):
        ends, begins = os.pipe()
        raw = (talk * 32767).astype("<i2").tobytes()
        given = {"options": OPTIONS, "device": "cpu"}
        with open(ends, "rb") as stream, open(begins, "wb", buffering=0) as pipe:
            found = recognise_live("asr", model.directory, stream, **given)
            pipe.write(raw[: 2 * round(3.5 * RATE_HZ) + 1])  # ends inside of a sample
            first = next(found)  # comes while the pipe is open
            pipe.write(raw[2 * round(3.5 * RATE_HZ) + 1 :])
            pipe.close()
            (second,) = found
        assert (first.start_s, second.start_s) == pytest.approx((0.8, 3.8), abs=0.07)
        assert first.end_s == pytest.approx(2.7, abs=0.07)
        assert str(first.path) == "-" and not first.whole
        assert first.text and second.text

    def test_the_command_reads_a_pipe(self, model, talk, tmp_path):
        config = tmp_path / "decode.yaml"
        config.write_text("beam_size: 3\nmaxlenratio: -8\n")
        command = [sys.executable, "-m", "mtla_espnet", "transcribe", "--live", "--device", "cpu"]
        command += ["--model", str(model.directory), "--inference_config", str(config)]
        twice = np.repeat(talk, 2)
        done = subprocess.run(
            [*command, "--rate_hz", str(2 * RATE_HZ)],
            input=(twice * 32767).astype("<i2").tobytes(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.decode().splitlines()
        starts = [float(line.split()[1].split("-")[0]) for line in lines]
        assert starts == pytest.approx([0.8, 3.8], abs=0.07)
        assert b"16000 a second" in done.stderr

    @has_silero
    def test_a_recording_without_speech_has_no_pieces(self, model, tmp_path, caplog):
        path = tmp_path / "noise.wav"
        soundfile.write(path, noise((2, 1e-4)), RATE_HZ)
        given = {"options": OPTIONS, "device": "cpu", "cut_at": "vad"}
        assert list(decode_recordings("asr", model.directory, [path], **given)) == []
        assert f"{path}: no speech was found" in caplog.text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--live", "a.wav"], "--live decodes the standard input: name no files"),
        (["--live", "--cut", "none"], "a stream is cut at silence or by vad, not at none"),
    ],
)
def test_mistakes(argv, message, capsys):
    assert main(["transcribe", "--model", "m", *argv]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_without_the_package_one_line_names_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    assert main(["transcribe", "--model", "m", "--cut", "vad", "a.wav"]) == 1
    error = capsys.readouterr().err
    assert error == "error: this command needs silero_vad: pip install 'mtla-espnet[vad]'\n"
