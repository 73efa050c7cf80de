"""Decoding a sound file to its end by FFmpeg, whatever its header promises.

libsndfile reads at most what a header says, and does not know AAC, WMA, WebM and others.
"""

from collections.abc import Iterator

import numpy as np

from mtla_espnet.files import UserError, reading

# Formats that hold sound and name no other file: playlists are not among them.
_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,loas,matroska,mov,mp3,mpeg,"
    "mpegts,nistsphere,ogg,tta,voc,w64,wav,wv"
)
# Their decoders go on behind damage, and behind the tags that may end a file.
_RESYNCHRONISING = ("mp3", "mp2", "mp1")
# Headers count an encoder's delay and padding or not: up to two frames.
SLACK_SAMPLES = 2 * 1152


def decode(descriptor: int, name: str, problem: str = "") -> Iterator[tuple[int, np.ndarray]]:
    """Decode the first sound stream of a file, to the end of what decodes.

    Args:
        descriptor: of the open file; its position is neither used nor moved.
        name: of the file, for messages.
        problem: why another library could not read it; told where FFmpeg cannot either.

    Yields:
        The rate in Hz, and the next (T, C) float32 in [-1, 1).

    Raises:
        UserError: FFmpeg does not read it, it holds no sound, or rate or channels change
            within it.
    """
    import av  # here, because it takes a tenth of a second and few files need it

    with reading(name, "cannot be read as audio"):
        try:
            container = av.open(
                f"file:/proc/self/fd/{descriptor}",
                container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
            )
        except av.FFmpegError as error:
            reason = problem or error.strerror
            raise UserError(f"{name}: cannot be read as audio: {reason}") from None
        with container:
            if not container.streams.audio:
                raise UserError(f"{name}: holds no audio")
            stream = container.streams.audio[0]
            codec = stream.codec_context
            resynchronises = codec.name.startswith(_RESYNCHRONISING)
            if "mp3" in container.format.name:
                # Its header would end a join of files where the first of them ends.
                codec.flags2 |= av.codec.context.Flags2.skip_manual
            codec.open()  # here: where this fails, the stream must not be touched any more
            rate_hz, channels, done = 0, 0, 0
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    if resynchronises:
                        continue
                    where = f"{name}: cannot be read as audio beyond sample {done}"
                    raise UserError(f"{where}: truncated or damaged") from None
                for frame in frames:
                    samples = _samples(frame)
                    form = frame.sample_rate, samples.shape[1]
                    if done and form != (rate_hz, channels):
                        raise UserError(
                            f"{name}: changes after {done} samples from {channels} channels at "
                            f"{rate_hz} Hz to {form[1]} at {form[0]} Hz"
                        )
                    rate_hz, channels = form
                    done += len(samples)
                    yield rate_hz, samples
            promised = stream.duration
            if promised and "mov" in container.format.name:  # others do not know it, or guess
                check_whole(name, round(promised * stream.time_base * rate_hz), done, SLACK_SAMPLES)


def check_whole(name: str, promised: int, found: int, slack: int = 0, start: int = 0) -> None:
    """Refuse what is shorter than its header says.

    Args:
        name: of the file, for messages.
        promised: samples by its header.
        found: samples that there are.
        slack: samples that may lack.
        start: where the samples begin.

    Raises:
        UserError: more are missing.
    """
    if found < promised - slack:
        raise UserError(
            f"{name}: truncated: its header promises {promised} samples "
            f"from sample {start}, {found} are there"
        )


def _samples(frame) -> np.ndarray:
    """Return an FFmpeg frame as (T, C) float32."""
    values = frame.to_ndarray()  # (C, T), or (1, T * C) where channels alternate
    if not frame.format.is_planar:
        values = values.reshape(frame.samples, -1).T
    if values.dtype.kind == "u":
        values = values - np.float32(128)
        return values.T / np.float32(128)
    if values.dtype.kind == "i":
        return values.T / np.float32(2 ** (8 * values.dtype.itemsize - 1))
    return values.T.astype(np.float32, copy=False)
