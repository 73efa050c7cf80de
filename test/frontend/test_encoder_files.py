import contextlib
import io
import pickle

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
import transformers

from mtla_espnet.cli import main
from mtla_espnet.data.archives.fairseq_zip import read_manifest
from mtla_espnet.data.audio import blocks
from mtla_espnet.data.features.reader import read_features
from mtla_espnet.data.kaldi.datadir import write_data_dir
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.frontend import encoder_files
from mtla_espnet.frontend.pretrained import StoredLayersFrontend
from mtla_espnet.frontend.transformers import TransformersFrontend
from mtla_espnet.jobs import devices

pytest.importorskip("s3prl", reason="espnet-s3prl is not installed")
with contextlib.redirect_stderr(io.StringIO()):
    from mtla_espnet.frontend.s3prl import S3prlFrontend
    from tiny_upstreams import write_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    write_checkpoint(root / "tiny.pt", "wavlm", "layer_norm")
    rng = np.random.default_rng(0)
    waves = {}
    for name, length in (("a-1", 5000), ("a-2", 3210), ("b-1", 8000)):
        waves[name] = root / f"{name}.flac"
        soundfile.write(waves[name], rng.normal(0, 0.1, length), 16000)
    text = dict.fromkeys(waves, "some words")
    write_data_dir(root / "data/dev", waves, text, {name: name[0] for name in waves})
    return root


@pytest.fixture(scope="module")
def frontend(root):
    conf = {"upstream": "wavlm_local", "path_or_url": str(root / "tiny.pt")}
    return S3prlFrontend(frontend_conf=conf, multilayer_feature=True).eval()


def command(root, *words):
    upstream = ["--model", "wavlm_local", "--path_or_url", f"{root}/tiny.pt"]
    return ["feats", "s3prl", f"{root}/data/dev", *words, *upstream]


def wave(root, name):
    samples = torch.from_numpy(soundfile.read(root / f"{name}.flac", dtype="float32")[0])
    return samples[None], torch.tensor([len(samples)])


def test_training_on_stored_layers_hears_what_training_on_audio_does(root, frontend, tmp_path):
    for nj, out in (("1", "one"), ("2", "two")):
        assert main(command(root, f"{tmp_path}/{out}", "--nj", nj)) == 0
    tables = [read_table(tmp_path / out / "dev/feats.scp") for out in ("one", "two")]
    assert (tmp_path / "one/dev/frame_shift").read_text() == "0.02\n"
    stored = StoredLayersFrontend(num_layers=3, layer_size=16)
    for name in ("a-1", "a-2", "b-1"):
        first, second = (kaldiio.load_mat(table[name]) for table in tables)
        np.testing.assert_allclose(first, second, atol=1e-5)
        features, lengths = frontend(*wave(root, name))
        assert first.shape == (lengths[0], 48)
        summed, _ = stored(torch.from_numpy(first.copy())[None], lengths)
        torch.testing.assert_close(summed, features, atol=1e-5, rtol=0)


@pytest.mark.parametrize("where", ["here", pytest.param("processes", marks=pytest.mark.slow)])
def test_processes_with_a_gpu_each_write_what_one_does(root, tmp_path, monkeypatch, where):
    """The CPU stands for the GPUs; what is sent to a process loads the encoder itself."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(blocks, "_BLOCK_UTTERANCES", 1)
    assert main(command(root, f"{tmp_path}/one", "--nj", "1")) == 0
    shares = []
    monkeypatch.setattr(encoder_files, "_devices", lambda arguments: ["0", "1"])
    start = devices.run_on_devices

    def run(job, given, names, label):
        shares.extend(map(len, given))
        if where == "processes":
            return start(job, given, names, label)
        return [pickle.loads(pickle.dumps(job))(share) for share in given]

    monkeypatch.setattr(devices, "run_on_devices", run)
    assert main(command(root, f"{tmp_path}/two")) == 0
    assert shares == [2, 1]
    archives = sorted(path.relative_to(tmp_path / "one") for path in tmp_path.rglob("one/**/*.ark"))
    assert len(archives) == 3
    for path in archives:
        assert (tmp_path / "two" / path).read_bytes() == (tmp_path / "one" / path).read_bytes()
    for name in ("feats_shape", "content_digest"):
        assert (tmp_path / "two/dev" / name).read_text() == (
            tmp_path / "one/dev" / name
        ).read_text()


def test_one_layer_in_a_zip(root, frontend, tmp_path):
    assert (
        main(command(root, f"{tmp_path}/zip", "--layer", "-1", "--form", "zip", "--nj", "1")) == 0
    )
    rows = read_manifest(tmp_path / "zip/dev.tsv")
    assert [row.fields["id"] for row in rows] == ["a-1", "a-2", "b-1"]
    for row in rows:
        states, lengths = frontend.layers(*wave(root, row.fields["id"]))
        found = read_features(f"{tmp_path}/zip/{row.fields['audio']}")
        assert int(row.fields["n_frames"]) == lengths[0]
        np.testing.assert_allclose(found, states[-1][0].detach(), atol=1e-5)


def test_an_encoder_of_transformers(root, tmp_path):
    torch.manual_seed(0)
    config = transformers.HubertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    transformers.HubertModel(config).save_pretrained(tmp_path / "hubert")
    words = ["--model", f"{tmp_path}/hubert", "--layer", "1", "--nj", "1"]
    assert main(["feats", "transformers", f"{root}/data/dev", f"{tmp_path}/out", *words]) == 0
    encoder = TransformersFrontend(str(tmp_path / "hubert")).eval()
    for name, place in read_table(tmp_path / "out/dev/feats.scp").items():
        states, _ = encoder.layers(*wave(root, name))
        np.testing.assert_allclose(kaldiio.load_mat(place), states[1][0].detach(), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--layer", "3"], 2, "--layer 3: there are layers 0 to 2, or -1: the last"),
        (["--layer", "top"], 2, "--layer must be a number or all, not 'top'"),
        (["--device", "cuda", "--nj", "2"], 2, "--device cuda: no GPU is visible"),
        (["--device", "cuda:1", "--nj", "2"], 2, "--device cuda:1: one process has it, add --nj"),
        (["--fs", "8000"], 2, "--fs 8000: pretrained encoders read 16000 Hz"),
        (["--path_or_url", "/no/such.pt"], 1, "/no/such.pt: no such file"),
    ],
)
def test_mistakes_are_one_line(root, tmp_path, capsys, monkeypatch, words, code, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    argv = command(root, f"{tmp_path}/out")
    assert main([*argv, *words]) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "out").exists()
