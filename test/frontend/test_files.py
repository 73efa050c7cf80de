"""`mtla-espnet feats`: zip files with manifests, and archives with data directories."""

import csv
import io
import zipfile

import kaldiio
import numpy as np
import pytest
import torch
import torchaudio

from audio_files import SPH, make_data_dir, noise, sph_samples, write_wav
from mtla_espnet.cli import main
from mtla_espnet.data.kaldi.tables import read_table, write_table


def kaldi(samples):
    wave = torch.from_numpy(samples.astype(np.float32))[None]
    return torchaudio.compliance.kaldi.fbank(wave, num_mel_bins=80, dither=0.0).numpy()


@pytest.fixture
def sets(tmp_path):
    wav = write_wav(tmp_path / "n.wav", noise(4000))
    make_data_dir(tmp_path / "data/train", {"ünï-1": wav, "ünï-2": SPH})
    make_data_dir(tmp_path / "data/dev", {"b-1": SPH})
    return [str(tmp_path / "data/train"), str(tmp_path / "data/dev")]


def fairseq_rows(path):
    with open(path, encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def fairseq_features(out, audio):
    name, offset, size = audio.rsplit(":", 2)
    with open(out / name, "rb") as stream:
        stream.seek(int(offset))
        return np.load(io.BytesIO(stream.read(int(size))))


def test_a_zip_for_fairseq_is_written(sets, tmp_path):
    out = tmp_path / "out"
    write_table(tmp_path / "data/dev/text.de", {"b-1": "Geh"})
    assert main(["feats", "fbank-zip", *sets, str(out), "--nj", "2"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml",
        "dev.tsv",
        "fbank80.zip",
        "train.tsv",
    ]
    rows = fairseq_rows(out / "train.tsv") + fairseq_rows(out / "dev.tsv")
    expected = {"ünï-1": noise(4000), "ünï-2": sph_samples(), "b-1": sph_samples()}
    assert [row["id"] for row in rows] == list(expected)
    for row in rows:
        features = fairseq_features(out, row["audio"])
        assert features.dtype == np.float32 and len(features) == int(row["n_frames"])
        np.testing.assert_allclose(features, kaldi(expected[row["id"]]), atol=1e-3)
        assert (row["tgt_text"], row["speaker"]) == ("GO", row["id"].split("-")[0])
    assert zipfile.ZipFile(out / "fbank80.zip").namelist() == [f"{key}.npy" for key in expected]
    config = (out / "config.yaml").read_text()
    assert config == f"audio_root: {out}\ninput_channels: 1\ninput_feat_per_channel: 80\n"

    before = (out / "fbank80.zip").read_bytes()
    assert main(["feats", "fbank-zip", *sets, str(out), "--nj", "1"]) == 0
    assert (out / "fbank80.zip").read_bytes() == before


def test_columns_and_lengths_are_chosen(sets, tmp_path):
    write_table(tmp_path / "data/train/text.de", {"ünï-1": "Los", "ünï-2": "Geh"})
    argv = ["--tgt_text", "text.de", "--src_text", "text", "--max_frames", "23"]
    wav = write_wav(tmp_path / "long.wav", noise(8000))
    table = read_table(tmp_path / "data/train/wav.scp")
    write_table(tmp_path / "data/train/wav.scp", table | {"ünï-1": wav})
    assert main(["feats", "fbank-zip", sets[0], str(tmp_path / "out"), *argv]) == 0
    (row,) = fairseq_rows(tmp_path / "out/train.tsv")
    assert (row["id"], row["tgt_text"], row["src_text"]) == ("ünï-2", "Geh", "GO")


def test_archives_are_written(sets, tmp_path):
    assert main(["feats", "fbank-ark", *sets, str(tmp_path / "out"), "--nj", "1"]) == 0
    entries = read_table(tmp_path / "out/train/feats.scp")
    found = kaldiio.load_mat(entries["ünï-2"])
    np.testing.assert_allclose(found, kaldi(sph_samples()), atol=1e-3)
    assert (tmp_path / "out/dev/feats_dim").read_text() == "80\n"
    argv = ["--nj", "1", "--compress", "--n_mels", "40"]
    assert main(["feats", "fbank-ark", sets[1], str(tmp_path / "small"), *argv]) == 0
    small = kaldiio.load_mat(read_table(tmp_path / "small/dev/feats.scp")["b-1"])
    assert small.shape == (23, 40)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["{train}", "{train}", "{out}"], 2, "two data directories have the same name"),
        (["{train}", "{data}"], 2, "data: holds the data directories: write elsewhere"),
        (["{train}", "{out}", "--channel", "left"], 2, "--channel must be a number"),
        (["{train}", "{out}", "--n_mels", "2"], 2, "--n_mels must be at least 4"),
        (["{train}", "{out}", "--channel", "1"], 1, "2 of 2 utterances rejected"),
        (["{train}", "{out}", "--tgt_text", "text.de"], 1, "text.de: no such file"),
    ],
)
def test_mistakes_are_one_line(sets, tmp_path, capsys, argv, code, message):
    names = {"train": sets[0], "out": tmp_path / "out", "data": tmp_path / "data"}
    assert main(["feats", "fbank-zip", *(word.format(**names) for word in argv)]) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not list(tmp_path.glob("out/*.tsv"))


def test_a_zip_of_other_sets_is_not_replaced(sets, tmp_path, capsys):
    assert main(["feats", "fbank-zip", sets[0], str(tmp_path / "out"), "--nj", "1"]) == 0
    assert main(["feats", "fbank-zip", sets[1], str(tmp_path / "out"), "--nj", "1"]) == 1
    assert "fbank80.zip: train.tsv points there: name all sets" in capsys.readouterr().err
    make_data_dir(tmp_path / "data/dev", {"ünï-1": SPH})
    assert main(["feats", "fbank-zip", *sets, str(tmp_path / "both"), "--nj", "1"]) == 1
    assert "wav.scp:1: 'ünï-1' is also in train" in capsys.readouterr().err
