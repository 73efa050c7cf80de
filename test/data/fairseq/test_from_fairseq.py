"""Fairseq's manifests to data directories, and back."""

import os

import numpy as np
import pytest

from audio_files import SPH, make_data_dir, noise, write_wav
from mtla_espnet.cli import main
from mtla_espnet.data.archives.fairseq_zip import FeatureZip, read_manifest
from mtla_espnet.data.audio.format import format_audio, read_parts
from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.data.fairseq.from_fairseq import data_dir_from_manifest
from mtla_espnet.data.fairseq.to_fairseq import manifest_from_data_dir
from mtla_espnet.data.features.durations import durations_s
from mtla_espnet.data.features.format import Extractor, format_features
from mtla_espnet.data.features.reader import FeatureTable
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError

HEAD = "id\taudio\tn_frames\ttgt_text\tspeaker\n"


def write(path, *rows, head=HEAD):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + "".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_features_of_a_zip_and_arrays(tmp_path):
    arrays = {f"ü{i}": np.full((5 + i, 3), i, np.float32) for i in range(3)}
    with FeatureZip(tmp_path / "f.zip") as archive:
        places = [archive.add(key, arrays[key]) for key in ("ü0", "ü1")]
    np.save(tmp_path / "ü2.npy", arrays["ü2"])
    audio = [f"f.zip:{offset}:{size}" for offset, size in places] + ["ü2.npy"]
    rows = [(f"ü{i}", audio[i], str(5 + i), "say\u00a0 it", "s") for i in (2, 0, 1)]
    manifest = write(tmp_path / "train.tsv", *rows)
    data_dir_from_manifest(manifest, tmp_path / "data/train")
    table = FeatureTable(tmp_path / "data/train/feats.scp")
    assert list(table) == ["ü0", "ü1", "ü2"]
    for key, array in arrays.items():
        np.testing.assert_array_equal(table[key], array)
    assert read_table(tmp_path / "data/train/text") == dict.fromkeys(arrays, "say it")
    assert read_table(tmp_path / "data/train/spk2utt") == {"s": "ü0 ü1 ü2"}

    manifest_from_data_dir(tmp_path / "data/train", tmp_path / "back.tsv")
    back = {row.fields["id"]: row.fields for row in read_manifest(tmp_path / "back.tsv")}
    assert back["ü2"] == {
        "id": "ü2",
        "audio": str(tmp_path / "ü2.npy"),
        "n_frames": "7",
        "tgt_text": "say it",
        "speaker": "s",
    }
    assert back["ü1"]["audio"] == f"{tmp_path}/{audio[1]}"


def test_paths_begin_at_audio_root(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.yaml").write_text("audio_root: ../sounds\n")
    write_wav(tmp_path / "sounds/a.wav", noise(800))
    manifest = write(tmp_path / "m/dev.tsv", ("a", "a.wav", "800", "x", "s"))
    data_dir_from_manifest(manifest, tmp_path / "dev")
    (part,) = read_parts(tmp_path / "dev")
    assert len(read_audio(part.path)[0]) == 800


def test_parts_of_sound_files_become_segments_and_back(tmp_path):
    wav = write_wav(tmp_path / "talk.wav", noise(48000), 44100)
    rows = [
        ("t-1", f"{wav}:0:1001", "1001", "one", "t"),
        ("t-2", f"{wav}:1001:9999", "9999", "two", "t"),
        ("u-1", str(SPH), "4000", "three", "u"),
    ]
    manifest = write(tmp_path / "train.tsv", *rows)
    data_dir_from_manifest(manifest, tmp_path / "train")
    parts = {part.utterance: part for part in read_parts(tmp_path / "train")}
    for key, start, end in (("t-1", 0, 1001), ("t-2", 1001, 11000)):
        part = parts[key]
        samples, rate_hz = read_audio(part.path, part.start_s, part.end_s)
        assert rate_hz == 44100
        np.testing.assert_array_equal(samples * 32768, noise(48000)[start:end])
    manifest_from_data_dir(tmp_path / "train", tmp_path / "back.tsv")
    back = [tuple(row.fields.values()) for row in read_manifest(tmp_path / "back.tsv")]
    assert back[:2] == rows[:2]
    assert back[2] == ("u-1", f"{SPH}:0:4000", *rows[2][2:])


def test_dumps_become_manifests(tmp_path):
    data = make_data_dir(tmp_path / "data", {"a-1": SPH})
    format_audio(data, tmp_path / "raw", 8000)
    manifest_from_data_dir(tmp_path / "raw", tmp_path / "raw.tsv")
    (row,) = read_manifest(tmp_path / "raw.tsv")
    assert row.fields["n_frames"] == "2000"
    assert row.fields["audio"] == f"{tmp_path}/raw/data/format.1/a-1.flac"
    extractor = Extractor("samples", lambda samples, rate_hz: samples.reshape(-1, 2))
    format_features(data, tmp_path / "zip", "fairseq_zip", extractor, 16000)
    (tmp_path / "zip/text.de").write_text("a-1 Geh\n")
    argv = ["--tgt_text", "text.de", "--src_text", "text"]
    assert main(["data", "to-fairseq", str(tmp_path / "zip"), str(tmp_path / "z.tsv"), *argv]) == 0
    (row,) = read_manifest(tmp_path / "z.tsv")
    assert (row.fields["n_frames"], row.fields["src_text"]) == ("2000", "GO")
    data_dir_from_manifest(tmp_path / "z.tsv", tmp_path / "again")
    assert FeatureTable(tmp_path / "again/feats.scp")["a-1"].shape == (2000, 2)
    format_features(data, tmp_path / "ark", "extracted", extractor, 16000)
    with pytest.raises(UserError, match=r"feats.scp:1: 'a-1' is in a Kaldi archive, .*fbank-zip"):
        manifest_from_data_dir(tmp_path / "ark", tmp_path / "ark.tsv")


def test_translations_have_both_languages_in_every_case(tmp_path):
    head = HEAD.replace("speaker", "speaker\tsrc_text")
    row = ("a", str(SPH), "4000", "Licht an!", "s", "Turn it on, please.")
    write(tmp_path / "train.tsv", row, head=head)
    argv = ["--src_lang", "en", "--tgt_lang", "de"]
    assert main(["data", "from-fairseq", f"{tmp_path}/train.tsv", f"{tmp_path}/t", *argv]) == 0
    found = {path.name: read_table(path)["a"] for path in (tmp_path / "t").glob("text*")}
    assert found == {
        "text": "turn it on please",
        "text.lc.de": "licht an!",
        "text.lc.en": "turn it on, please.",
        "text.lc.rm.de": "licht an",
        "text.lc.rm.en": "turn it on please",
        "text.tc.de": "Licht an!",
        "text.tc.en": "Turn it on, please.",
    }


def test_sound_files_of_a_zip_become_audio_and_back(tmp_path):
    """Fairseq's `--use-audio-input` stores them so: the place of an array holds a flac."""
    samples = {"s-a": noise(4000), "s-b": noise(3000, seed=1)}
    with FeatureZip(tmp_path / "flac80.zip") as archive:
        places = {}
        for key, values in samples.items():
            content = write_wav(tmp_path / "one.flac", values).read_bytes()
            places[key] = "flac80.zip:{}:{}".format(*archive.add_bytes(f"{key}.flac", content))
    rows = [(key, place, str(len(samples[key])), "x", "s") for key, place in places.items()]
    data_dir_from_manifest(write(tmp_path / "train.tsv", *rows), tmp_path / "data")
    assert not (tmp_path / "data/feats.scp").exists()
    entries = read_table(tmp_path / "data/wav.scp")
    assert entries == {key: f"{tmp_path}/{place}" for key, place in places.items()}
    assert durations_s(tmp_path / "data") == {"s-a": 0.25, "s-b": 3 / 16}
    format_audio(tmp_path / "data", tmp_path / "dump", 16000)
    for key, entry in read_table(tmp_path / "dump/wav.scp").items():
        np.testing.assert_array_equal(read_audio(entry)[0] * 32768, samples[key])
    manifest_from_data_dir(tmp_path / "data", tmp_path / "back.tsv")
    back = {row.fields["id"]: row.fields for row in read_manifest(tmp_path / "back.tsv")}
    assert {key: (row["audio"], row["n_frames"]) for key, row in back.items()} == {
        key: (entries[key], str(len(samples[key]))) for key in samples
    }


def test_a_tab_in_a_text_is_a_blank_of_a_manifest(tmp_path):
    data = make_data_dir(tmp_path / "data", {"a-1": SPH})
    (data / "text").write_text("a-1 say\tit\n")
    manifest_from_data_dir(data, tmp_path / "m.tsv")
    assert read_manifest(tmp_path / "m.tsv")[0].fields["tgt_text"] == "say it"


def test_a_stream_is_not_replaced_by_a_manifest(tmp_path, capsys):
    data = make_data_dir(tmp_path / "data", {"a-1": SPH})
    os.mkfifo(tmp_path / "pipe")
    os.symlink("/proc/self/fd/1", tmp_path / "stdout")
    for name in ("pipe", "stdout"):
        assert main(["data", "to-fairseq", str(data), str(tmp_path / name)]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.endswith(f"{name}: is no file, and cannot be replaced by one: name a file")
    assert (tmp_path / "stdout").is_symlink() and (tmp_path / "pipe").is_fifo()


def test_speakers_that_do_not_sort_as_ids_do_are_left_out(tmp_path):
    rows = [("a", str(SPH), "1", "x", "z"), ("b", str(SPH), "1", "x", "y")]
    data_dir_from_manifest(write(tmp_path / "m.tsv", *rows), tmp_path / "d")
    assert read_table(tmp_path / "d/utt2spk") == {"a": "a", "b": "b"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a b", "x.wav", "1", "x", "s"), "m.tsv:2: id 'a b' has white space"),
        (("a\0b", "x.wav", "1", "x", "s"), "m.tsv:2: id .* has the invisible character U\\+0000"),
        (("a", "", "1", "x", "s"), "m.tsv:2: 'a' has no audio"),
        (("a", "rm x |", "1", "x", "s"), r"m.tsv:2: audio 'rm x \|' is no file"),
        (("a", "none.wav:1:2", "1", "x", "s"), "m.tsv:2: 'a': .*none.wav"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    manifest = write(tmp_path / "m.tsv", row)
    with pytest.raises(UserError, match=message):
        data_dir_from_manifest(manifest, tmp_path / "d")
    with pytest.raises(UserError, match=r"lacks the column src_text"):
        data_dir_from_manifest(
            write(tmp_path / "n.tsv", ("a", str(SPH), "1", "x", "s")), tmp_path / "d", "en", "de"
        )
