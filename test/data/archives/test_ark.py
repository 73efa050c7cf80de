"""Archives: written and read against kaldiio, which the package never imports."""

import io
import signal

import kaldiio
import numpy as np
import pytest

from audio_files import decoded, noise
from mtla_espnet.data.archives.ark import (
    read_ark_audio,
    read_ark_matrix,
    write_ark_audio,
    write_ark_matrices,
)
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError


def matrix(seed=0, shape=(7, 5)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("write_function", [None, "soundfile"])
def test_waveforms_of_another_writer_are_read(tmp_path, write_function):
    ark, scp = tmp_path / "a.ark", tmp_path / "a.scp"
    kaldiio.save_ark(
        str(ark), {"utt1": (16000, noise(100)), "utt2": (8000, noise(200, channels=2))},
        scp=str(scp), write_function=write_function,
    )  # fmt: skip
    entries = read_table(scp)
    samples, rate_hz = read_ark_audio(entries["utt1"])
    assert (rate_hz, samples.dtype, samples.shape) == (16000, np.float32, (100, 1))
    np.testing.assert_array_equal(samples[:, 0] * 32768, noise(100))
    samples, rate_hz = read_ark_audio(entries["utt2"])
    assert rate_hz == 8000
    np.testing.assert_array_equal(samples * 32768, noise(200, channels=2))


@pytest.mark.parametrize("container", ["wav", "flac"])
def test_another_reader_reads_our_waveforms(tmp_path, container):
    with open(tmp_path / "a.ark", "wb") as ark:
        offsets = [
            write_ark_audio(ark, f"ütt{i}", noise(50, seed=i), 16000, container) for i in (1, 2)
        ]
    for number, offset in enumerate(offsets, 1):
        samples, rate_hz = decoded(f"{tmp_path}/a.ark:{offset}")
        assert rate_hz == 16000
        np.testing.assert_array_equal(samples, noise(50, seed=number))


@pytest.mark.parametrize("method", [None, 1, 2, 3, 5])
def test_matrices_of_another_writer_are_read(tmp_path, method):
    ark, scp = tmp_path / "f.ark", tmp_path / "f.scp"
    written = {"utt1": matrix(), "utt2": matrix(1, (12, 5))}
    kaldiio.save_ark(str(ark), written, scp=str(scp), compression_method=method)
    for utterance, entry in read_table(scp).items():
        found = read_ark_matrix(entry)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, kaldiio.load_mat(entry))
        if method is None:
            np.testing.assert_array_equal(found, written[utterance])


@pytest.mark.parametrize("compress", [False, True])
def test_another_reader_reads_our_matrices(tmp_path, compress):
    written = {"é1": matrix(), "utt2": matrix(1, (300, 80))}
    with open(tmp_path / "f.ark", "wb") as ark:
        offsets = write_ark_matrices(ark, written.items(), compress)
    size = (tmp_path / "f.ark").stat().st_size
    for utterance, offset in offsets.items():
        found = kaldiio.load_mat(f"{tmp_path}/f.ark:{offset}")
        np.testing.assert_allclose(found, written[utterance], atol=0.05 if compress else 0)
    assert (size < 40000) == compress


def test_bad_places_are_refused(tmp_path):
    ark = tmp_path / "a.ark"
    kaldiio.save_ark(str(ark), {"u": (16000, noise(100))})
    size = ark.stat().st_size
    for read in (read_ark_audio, read_ark_matrix):
        with pytest.raises(UserError, match=f"a.ark:99999: the offset is out of range, .* {size} "):
            read(f"{ark}:99999")
        with pytest.raises(UserError, match="none.ark:5: no such file"):
            read(f"{tmp_path}/none.ark:5")
        with pytest.raises(UserError, match="a.ark:11: cannot be read from the archive"):
            read(f"{ark}:11")
    with pytest.raises(UserError, match="a.ark:2: holds audio, not a matrix"):
        read_ark_matrix(f"{ark}:2")
    kaldiio.save_ark(str(ark), {"u": np.ones((2, 3), np.float32), "v": np.ones(3, np.float32)})
    with pytest.raises(UserError, match="a.ark:2: holds a matrix, not audio"):
        read_ark_audio(f"{ark}:2")
    place = ark.stat().st_size - 3 * 4 - 2 - 3 - 5
    with pytest.raises(UserError, match="holds a vector"):
        read_ark_matrix(f"{ark}:{place}")


def test_a_truncated_archive_is_refused(tmp_path):
    for number, value in enumerate([(16000, noise(100)), matrix()]):
        ark = tmp_path / f"{number}.ark"
        kaldiio.save_ark(str(ark), {"u": value}, write_function="soundfile" if not number else None)
        ark.write_bytes(ark.read_bytes()[:-10])
        with pytest.raises(UserError, match="cannot be read from the archive"):
            (read_ark_matrix if number else read_ark_audio)(f"{ark}:2")


def test_nothing_in_a_place_is_run(tmp_path):
    for path in (f"| touch {tmp_path}/ran; .ark:5", f"touch {tmp_path}/ran |.ark:5"):
        with pytest.raises(UserError, match="no such file"):
            read_ark_matrix(path)
    assert not (tmp_path / "ran").exists()


def test_a_signal_costs_no_samples(tmp_path, monkeypatch):
    """libsndfile writes and reads an archive through callbacks, in which a signal may come up."""
    samples = np.arange(-20_000, 20_000, dtype=np.int16)

    def disturbed(method):
        def call(self, *arguments):
            signal.raise_signal(signal.SIGINT)
            return method(self, *arguments)

        return call

    class Disturbed(io.BytesIO):
        write, read, readinto, seek = map(
            disturbed, (io.BytesIO.write, io.BytesIO.read, io.BytesIO.readinto, io.BytesIO.seek)
        )

    quiet, noisy = io.BytesIO(), Disturbed()
    write_ark_audio(quiet, "a", samples, 16000, "flac")
    with pytest.raises(KeyboardInterrupt):
        write_ark_audio(noisy, "a", samples, 16000, "flac")
    assert noisy.getvalue() == quiet.getvalue()


RANGES = [
    ("[0:9]", slice(0, 10), slice(None)),
    ("[5:5]", slice(5, 6), slice(None)),
    ("[0:9,0:3]", slice(0, 10), slice(0, 4)),
    ("[3:8, 2:6]", slice(3, 9), slice(2, 7)),
    ("[:,1:2]", slice(None), slice(1, 3)),
    ("[2:,:]", slice(2, None), slice(None)),
    ("[:4]", slice(0, 5), slice(None)),
    ("[15:22]", slice(15, 20), slice(None)),  # three frames more: rounded times, as in Kaldi
]


@pytest.mark.parametrize(("written", "rows", "columns"), RANGES)
@pytest.mark.parametrize("compress", [False, True])
def test_a_range_holds_both_its_ends(tmp_path, written, rows, columns, compress):
    with open(tmp_path / "a.ark", "wb") as ark:
        offset = write_ark_matrices(ark, [("u", matrix(0, (20, 8)))], compress)["u"]
    place = f"{tmp_path}/a.ark:{offset}"
    found = read_ark_matrix(f"{place}{written}")
    np.testing.assert_array_equal(found, read_ark_matrix(place)[rows, columns])
    assert found.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[20:20]", "is not in the matrix of 20 rows and 8 columns"),
        ("[0:23]", "is not in the matrix of 20 rows"),
        ("[5:4]", "is not in the matrix"),
        ("[0:9,0:8]", "is not in the matrix of 20 rows and 8 columns"),
        ("[0-9]", "is not a range such as"),
        ("[]", "is not a range such as"),
        ("[0:9,0:3,1:2]", "is not a range such as"),
    ],
)
def test_a_range_that_is_none_is_refused(tmp_path, written, message):
    with open(tmp_path / "a.ark", "wb") as ark:
        offset = write_ark_matrices(ark, [("u", matrix(0, (20, 8)))])["u"]
    with pytest.raises(UserError) as raised:
        read_ark_matrix(f"{tmp_path}/a.ark:{offset}{written}")
    assert str(raised.value).startswith(f"{tmp_path}/a.ark:{offset}{written}: ")
    assert message in str(raised.value)


def test_a_range_of_audio_is_refused(tmp_path):
    ark = tmp_path / "a.ark"
    kaldiio.save_ark(str(ark), {"u": (16000, noise(100))})
    with pytest.raises(UserError, match="a range is of features; cut audio by `segments`"):
        read_ark_audio(f"{ark}:2[0:9]")


@pytest.mark.parametrize("shape", [(0, 80), (0, 0), (3, 0)])
def test_an_empty_matrix_is_refused(tmp_path, shape):
    with open(tmp_path / "a.ark", "wb") as ark:
        offset = write_ark_matrices(ark, [("u", np.zeros(shape, np.float32))])["u"]
    with pytest.raises(UserError, match=f"a.ark:{offset}: is empty: its matrix has the shape"):
        read_ark_matrix(f"{tmp_path}/a.ark:{offset}")
