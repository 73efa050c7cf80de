"""The length of a sound file is that of what decodes, whatever its header promises."""

import os
import zipfile

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio_files import noise, write_wav
from mtla_espnet.data.archives.fairseq_zip import FeatureZip
from mtla_espnet.data.audio.reader import AudioReader, read_audio
from mtla_espnet.data.audio.sound_file import Sound, sound_length
from mtla_espnet.files import UserError

RATE_HZ = 16000
# What a coder may add to the samples at both ends, and lose at a seam.
EDGE = 2 * 1152


def tone(length=40000, period=40):
    """A tone that becomes louder: its place can be told from its level."""
    return 0.5 * np.sin(np.arange(length) * 2 * np.pi / period) * np.linspace(0.1, 1, length)


def stream_of_flac(path):
    """FLAC as an encoder writes it to a pipe: STREAMINFO has 0 samples, for unknown."""
    data = bytearray(write_wav(path, noise(40000)).read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)


def joined(suffix, **options):
    def make(path):
        write_wav(path, tone(25000), **options)
        first = path.read_bytes()
        write_wav(path, tone(15000), **options)
        path.write_bytes(first + path.read_bytes())

    make.__name__ = f"joined_{suffix}"
    return make


def mp3_without_a_xing_header(path):
    """Of variable rate, loud at its beginning: the length is guessed too short."""
    samples = np.concatenate([0.5 * np.random.default_rng(0).normal(size=20000), np.zeros(20000)])
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
    data = write_wav(path, samples.clip(-1, 1), **options).read_bytes()
    assert b"Xing" in data[:64]
    path.write_bytes(data.replace(b"Xing", bytes(4), 1))


def mp3_in_wav(path):
    data = write_wav(path.with_suffix(".mp3"), tone()).read_bytes()
    form = (0x55).to_bytes(2, "little") + (1).to_bytes(2, "little")
    form += RATE_HZ.to_bytes(4, "little") + (4000).to_bytes(4, "little")
    form += (1).to_bytes(2, "little") + bytes(2) + (12).to_bytes(2, "little")
    form += (1).to_bytes(2, "little") + (2).to_bytes(4, "little") + (288).to_bytes(2, "little")
    form += (1).to_bytes(2, "little") + bytes(2)
    chunks = b"fmt " + len(form).to_bytes(4, "little") + form
    chunks += b"data" + len(data).to_bytes(4, "little") + data
    path.write_bytes(b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WAVE" + chunks)


def by_ffmpeg(codec, container):
    def make(path):
        with av.open(str(path), "w", format=container) as output:
            stream = output.add_stream(codec, rate=RATE_HZ, layout="mono")
            samples = (tone() * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, 0
            form = stream.codec_context.format
            resampler = av.AudioResampler(format=form, layout="mono", rate=RATE_HZ)
            fifo = av.AudioFifo()
            for converted in resampler.resample(frame):
                fifo.write(converted)
            while part := fifo.read(stream.codec_context.frame_size or 1024, partial=True):
                output.mux(stream.encode(part))
            output.mux(stream.encode(None))

    make.__name__ = f"{codec}_in_{container}"
    return make


def gsm(path):
    write_wav(path, tone(), 8000, subtype="GSM610")


def stopped_recorder(path):
    """A recorder that was killed leaves the length of its data at 0."""
    data = bytearray(write_wav(path, noise(40000)).read_bytes())
    data[40:44] = bytes(4)
    path.write_bytes(data)


# Kind of file -> suffix, and whether its samples are those that were written.
KINDS = {
    stream_of_flac: ("flac", True),
    joined("ogg"): ("ogg", False),
    joined("opus", format="OGG", subtype="OPUS"): ("opus", False),
    joined("mp3"): ("mp3", False),
    mp3_without_a_xing_header: ("mp3", False),
    mp3_in_wav: ("wav", False),
    gsm: ("wav", False),
    stopped_recorder: ("wav", True),
    by_ffmpeg("aac", "mp4"): ("m4a", False),
    by_ffmpeg("aac", "adts"): ("aac", False),
    by_ffmpeg("alac", "mp4"): ("m4a", False),
    by_ffmpeg("libopus", "webm"): ("webm", False),
    by_ffmpeg("wavpack", "wv"): ("wv", False),
}
OPUS = {"joined_opus", "libopus_in_webm"}  # which is decoded at 48 kHz
ORDINARY = ("wav", "flac", "ogg", "mp3")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name of a kind -> a file of it."""
    directory = tmp_path_factory.mktemp("sound")
    found = {}
    for make, (suffix, _) in KINDS.items():
        path = directory / f"{make.__name__}.{suffix}"
        make(path)
        found[make.__name__] = path
    for suffix in ORDINARY:
        found[suffix] = write_wav(directory / f"a.{suffix}", tone())
    return found


@pytest.mark.parametrize(
    ("make", "form"), KINDS.items(), ids=lambda each: getattr(each, "__name__", "")
)
def test_all_that_decodes_is_read(files, make, form):
    samples, rate_hz = read_audio(files[make.__name__])
    written_hz = 8000 if make is gsm else RATE_HZ
    assert rate_hz == (48000 if make.__name__ in OPUS else written_hz)
    assert 40000 - 512 <= len(samples) * written_hz / rate_hz <= 40000 + 2 * EDGE
    if form[1]:
        np.testing.assert_array_equal(samples * 32768, noise(40000))


def test_a_join_holds_both_in_order(files):
    samples, _ = read_audio(files["joined_ogg"])
    expected = np.concatenate([tone(25000), tone(15000)])
    lags = range(-64, 512)  # FFmpeg gives the beginning of the second stream late
    found = [
        np.corrcoef(samples[25100 + lag : 39000 + lag], expected[25100:39000])[0, 1]
        for lag in lags
        if 39000 + lag <= len(samples)
    ]
    assert np.corrcoef(samples[:24000], expected[:24000])[0, 1] > 0.99
    assert max(found) > 0.99


@pytest.mark.parametrize("name", [*ORDINARY, *(make.__name__ for make in KINDS)])
def test_a_length_is_that_of_what_is_read_and_a_part_is_a_part_of_it(files, name):
    whole, rate_hz = read_audio(files[name])
    assert sound_length(str(files[name])) == (rate_hz, len(whole))
    reader = AudioReader()

    @given(st.data())
    def part(data):
        start = data.draw(st.integers(0, len(whole) - 1))
        end = data.draw(st.integers(start + 1, len(whole)))
        found, rate = reader.read(os.fspath(files[name]), start / rate_hz, end / rate_hz)
        assert rate == rate_hz
        np.testing.assert_allclose(found, whole[start:end], rtol=0, atol=1e-6)

    part()


@pytest.mark.parametrize("suffix", ORDINARY)
def test_what_a_header_proves_is_not_decoded(files, suffix, monkeypatch):
    monkeypatch.setattr(av, "open", None)
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    assert sound_length(str(files[suffix])) == (RATE_HZ, 40000)


def test_an_estimate_believes_a_header_but_not_one_that_says_nothing(files, tmp_path, monkeypatch):
    assert sound_length(str(files["stream_of_flac"]), exact=False) == (RATE_HZ, 40000)
    (path := tmp_path / "a.mp3").write_bytes(files["mp3"].read_bytes()[:-2500])
    assert sound_length(str(files["mp3"]), exact=False) == (RATE_HZ, 40000)
    monkeypatch.setattr(av, "open", None)
    assert sound_length(str(path), exact=False) == (RATE_HZ, 40000)


@pytest.mark.parametrize("block", [192, 256, 1000, 4096, 4608])
@pytest.mark.parametrize("length", [1, 191, 192, 193, 70_000, 600_000])
def test_a_flac_of_any_block_size_proves_its_length(tmp_path, block, length):
    """The last frame's number is one to three bytes, its size a code, a byte or two."""
    path = tmp_path / "a.flac"
    with av.open(str(path), "w", format="flac") as output:
        stream = output.add_stream("flac", rate=RATE_HZ, layout="mono")
        stream.codec_context.options = {"frame_size": str(block)}
        samples = noise(length)
        for start in range(0, length, block):
            part = samples[None, start : start + block]
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with Sound(str(path)) as sound:
        assert sound.claim == (length, True)


def test_a_truncated_file_is_told_by_its_last_frame(tmp_path):
    path = write_wav(tmp_path / "a.flac", noise(40000))
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(UserError, match="beyond sample 32768: truncated or damaged"):
        sound_length(str(path))


@pytest.mark.parametrize(("rate_hz", "told"), [(1, 1), (999, 999), (10**9, 10**9)])
def test_rates_have_bounds(tmp_path, rate_hz, told):
    path = write_wav(tmp_path / "a.wav", noise(100), rate_hz)
    for read in (read_audio, lambda path: sound_length(str(path))):
        with pytest.raises(UserError) as raised:
            read(path)
        assert str(raised.value) == (
            f"{path}: claims a rate of {told} Hz, and 1000 to 1000000 Hz are read: "
            "write the right rate into its header"
        )


@pytest.mark.parametrize(("suffix", "form"), [("wav", "wav"), ("flac", "FLAC")])
def test_a_second_file_behind_the_first_is_refused(tmp_path, suffix, form):
    path = write_wav(tmp_path / f"a.{suffix}", noise(10000))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + write_wav(path, noise(5000)).read_bytes())
    with pytest.raises(UserError, match=f"a second {form} file begins at byte {size}: join"):
        read_audio(path)


def test_a_playlist_names_no_other_file(tmp_path, files):
    for name, text in {
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "a.ffconcat": "ffconcat version 1.0\nfile {}\n",
    }.items():
        (tmp_path / name).write_text(text.format(files["aac_in_adts"]))
        with pytest.raises(UserError, match=f"{name}: cannot be read as audio: Format not rec"):
            read_audio(tmp_path / name)


def test_a_video_without_sound_is_told(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25, width=16, height=16, pix_fmt="yuv420p")
        frame = av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), format="yuv420p")
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(UserError, match="a.mp4: holds no audio"):
        read_audio(path)


@pytest.mark.parametrize("name", ["a\nb.wav", os.fsdecode(b"\xff\xfe.flac"), "é" * 125 + ".wav"])
def test_any_name_of_a_file_will_do(tmp_path, name):
    samples = noise(100)
    with open(tmp_path / name, "wb") as stream:
        soundfile.write(stream, samples, RATE_HZ, format=name.rpartition(".")[2])
    np.testing.assert_array_equal(read_audio(tmp_path / name)[0] * 32768, samples)
    with open(tmp_path / name, "r+b") as stream:
        stream.truncate(60)
    with pytest.raises(UserError) as raised:
        read_audio(tmp_path / name)
    assert str(raised.value).isprintable()


def test_sound_in_a_zip_is_read(tmp_path, files):
    with FeatureZip(tmp_path / "a.zip") as archive:
        for suffix in ("flac", "wav"):
            archive.add_bytes(f"u.{suffix}", files[suffix].read_bytes())
        place = archive.add_bytes("v.m4a", files["aac_in_mp4"].read_bytes())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        info = archive.getinfo("u.flac")
    entry = f"{tmp_path}/a.zip:{info.header_offset + 30 + 6}:{info.file_size}"
    reader = AudioReader()
    np.testing.assert_array_equal(reader.read(entry)[0], read_audio(files["flac"])[0])
    part, _ = reader.read(entry, 0.5, 1.0)
    np.testing.assert_array_equal(part, read_audio(files["flac"], 0.5, 1.0)[0])
    entry = f"{tmp_path}/a.zip:{place[0]}:{place[1]}"
    np.testing.assert_array_equal(reader.read(entry)[0], read_audio(files["aac_in_mp4"])[0])
    assert sound_length(entry)[1] == len(reader.read(entry)[0])
    with pytest.raises(UserError, match=r"a.zip:5:99999999: is out of range"):
        sound_length(f"{tmp_path}/a.zip:5:99999999")


def test_a_codec_that_cannot_be_opened_is_told(tmp_path):
    """Blocks of 127 bytes: GSM's have 65, and libsndfile refuses them too."""
    path = write_wav(tmp_path / "a.wav", tone(8000), 8000, subtype="GSM610")
    data = bytearray(path.read_bytes())
    data[32:34] = (127).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.wav: cannot be read as audio: Invalid data found"):
        read_audio(path)


@given(st.data())
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_damage_is_read_or_told_in_one_line(files, tmp_path_factory, data):
    """Neither a crash, nor another exception, nor a length that is not that of what is read."""
    content = bytearray(files[data.draw(st.sampled_from(sorted(files)))].read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content), 300) - 1))
        content[place] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
    path = tmp_path_factory.mktemp("damaged") / "a"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        samples, rate_hz = read_audio(path, channel=None)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error)) <= 1000
    else:
        told_hz, length = sound_length(str(path))
        assert told_hz == rate_hz and abs(length - len(samples)) <= EDGE
