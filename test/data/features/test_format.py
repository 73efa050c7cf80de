import re

import kaldiio
import numpy as np
import pytest

from audio_files import SPH, content, make_data_dir, noise, write_wav
from mtla_espnet.data.archives.fairseq_zip import FeatureZip
from mtla_espnet.data.audio.reading_options import ReadingOptions
from mtla_espnet.data.features.format import Extractor, format_features, read_frame_shift
from mtla_espnet.data.features.reader import read_features
from mtla_espnet.data.kaldi.rejected import read_rejected
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError


def means(samples, rate_hz):
    """Features that are easy to tell: means of 100 samples, and the rate."""
    frames = samples[: len(samples) // 100 * 100].reshape(-1, 100).mean(axis=1)
    return np.stack([frames, np.full_like(frames, rate_hz)], axis=1).astype(np.float32)


MEANS = Extractor("means", means)
FORMS = {"extracted": r".*/data/format.1/feats.ark:\d+", "fairseq_zip": r".*/feats.zip:\d+:\d+"}


@pytest.mark.parametrize("feats_type", FORMS)
def test_features_are_computed_from_audio(tmp_path, feats_type):
    wav = write_wav(tmp_path / "a.wav", noise(1600), 8000)
    data = make_data_dir(tmp_path / "data", {"a-1": wav, "b-1": SPH})
    out = tmp_path / "dump"
    format_features(data, out, feats_type, MEANS, 8000)
    shapes = {"a-1": "16,2", "b-1": "20,2"}
    assert read_table(out / "feats_shape") == shapes
    for name, value in (("feats_dim", 2), ("feats_type", feats_type), ("frame_shift", 0.01)):
        assert (out / name).read_text() == f"{value}\n"
    for name in ("text", "utt2spk", "spk2utt"):
        assert (out / name).read_bytes() == (data / name).read_bytes()
    entries = read_table(out / "feats.scp")
    for entry in entries.values():
        assert re.fullmatch(FORMS[feats_type], entry)
    found = read_features(entries["a-1"])
    np.testing.assert_allclose(found, means(noise(1600) / 32768, 8000), atol=1e-7)
    if feats_type == "extracted":
        np.testing.assert_array_equal(kaldiio.load_mat(entries["a-1"]), found)


def test_the_number_of_jobs_changes_nothing(tmp_path):
    wavs = {f"a-{i:03d}": write_wav(tmp_path / f"{i}.wav", noise(150 + i)) for i in range(250)}
    make_data_dir(tmp_path / "data", wavs)
    for feats_type in FORMS:
        for name, nj in (("one", 1), ("two", 2)):
            out = tmp_path / feats_type / name
            format_features(
                tmp_path / "data",
                out,
                feats_type,
                MEANS,
                16000,
                ReadingOptions(nj=nj, progress=False),
            )
        assert content(out) == content(out.with_name("one"))


def feature_dir(tmp_path, features):
    """A data directory with `feats.scp` of entries."""
    data = make_data_dir(tmp_path / "data", dict.fromkeys(features, "x"))
    (data / "wav.scp").unlink()
    write_table(data / "feats.scp", features)
    return data


def test_features_that_are_there_stay_where_they_are(tmp_path):
    arrays = {f"a-{i}": np.full((3 + i, 2), i, np.float32) for i in range(3)}
    kaldiio.save_ark(
        str(tmp_path / "f.ark"), arrays, scp=str(tmp_path / "f.scp"), compression_method=2
    )
    entries = read_table(tmp_path / "f.scp")
    data = feature_dir(tmp_path, entries)
    (data / "frame_shift").write_text("0.02\n")
    format_features(data, tmp_path / "dump", "extracted", MEANS, 16000)
    assert read_table(tmp_path / "dump/feats.scp") == entries
    assert (tmp_path / "dump/frame_shift").read_text() == "0.02\n"
    assert not list((tmp_path / "dump").rglob("*.ark"))
    # The other form is written.
    format_features(data, tmp_path / "zip", "fairseq_zip", MEANS, 16000)
    for key, entry in read_table(tmp_path / "zip/feats.scp").items():
        np.testing.assert_array_equal(read_features(entry), kaldiio.load_mat(entries[key]))


def test_zips_and_arrays_stay_and_audio_is_computed(tmp_path):
    with FeatureZip(tmp_path / "a.zip") as archive:
        offset, size = archive.add("a-1", np.ones((4, 2), np.float32))
    np.save(tmp_path / "a.npy", np.ones((5, 2), np.float32))
    entries = {
        "a-1": f"{tmp_path}/a.zip:{offset}:{size}",
        "a-2": f"{tmp_path}/a.npy",
        "a-3": str(SPH),
    }
    format_features(feature_dir(tmp_path, entries), tmp_path / "dump", "fairseq_zip", MEANS, 16000)
    found = read_table(tmp_path / "dump/feats.scp")
    assert {key: found[key] for key in ("a-1", "a-2")} == {k: entries[k] for k in ("a-1", "a-2")}
    assert read_table(tmp_path / "dump/feats_shape") == {"a-1": "4,2", "a-2": "5,2", "a-3": "40,2"}


def test_bad_features_are_left_out_and_named(tmp_path):
    entries = {f"a-{i}": tmp_path / f"{i}.npy" for i in range(8)}
    for key, path in entries.items():
        np.save(path, np.ones((4, 3 if key == "a-1" else 2), np.float32))
    entries["a-2"].write_bytes(entries["a-2"].read_bytes()[:-3])
    np.save(entries["a-3"], np.ones((4, 2), np.int32))
    np.save(entries["a-4"], np.full((4, 2), np.nan, np.float32))
    entries["a-5"].unlink()
    write_wav(tmp_path / "short.wav", noise(50))
    entries["a-6"] = tmp_path / "short.wav"
    data = feature_dir(tmp_path, entries)
    out = tmp_path / "dump"
    format_features(data, out, "fairseq_zip", MEANS, 16000, ReadingOptions(max_rejected=75))
    assert list(read_table(out / "feats.scp")) == list(read_table(out / "text")) == ["a-0", "a-7"]
    reasons = {each.utterance: each for each in read_rejected(out / "rejected.tsv")}
    for key, words in [
        ("a-1", "has 3 features a frame, the others 2"),
        ("a-2", "has 157 bytes, its array 160"),
        ("a-3", "holds int32"),
        ("a-4", "not finite"),
        ("a-5", "no such file"),
        ("a-6", "is too short, 50 samples at 16000 Hz"),
    ]:
        assert words in reasons[key].reason
        assert (reasons[key].file, reasons[key].line) == (f"{data}/feats.scp", int(key[2:]) + 1)
    with pytest.raises(UserError, match=r"6 of 8 utterances rejected .*feats.scp:2: 'a-1'"):
        format_features(data, out, "fairseq_zip", MEANS, 16000)
    assert not (out / "feats.scp").exists()


def test_bad_requests_are_refused(tmp_path):
    data = feature_dir(tmp_path, {"a-1": "a.npy"})
    with pytest.raises(UserError, match="feats_type 'mfcc' is not one of extracted, fairseq_zip"):
        format_features(data, tmp_path / "dump", "mfcc", MEANS, 16000)
    (data / "feats.scp").write_text("a-2 a.npy\n")
    with pytest.raises(UserError, match="lists extracted from utt2spk and features differ"):
        format_features(data, tmp_path / "dump", "extracted", MEANS, 16000)
    for text in ("x\n", "-1\n", "inf\n"):
        (data / "frame_shift").write_text(text)
        with pytest.raises(UserError, match="frame_shift: must hold the seconds"):
            read_frame_shift(data)
