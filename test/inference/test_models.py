"""Models of translation, understanding and text: the same best hypothesis as ESPnet's classes."""

import numpy as np
import pytest
import soundfile
import torch

from mtla_espnet.cli import main
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.inference.decode import decode
from mtla_espnet.inference.models import model_class
from mtla_espnet.task import TASKS
from small_models import TARGET, save_model

pytestmark = pytest.mark.espnet

RATE_HZ = 8000
TEXTS = {"utt1": "lm nop", "utt2": "q", "utt3": "qpon m lll", "utt4": "p p", "utt5": "olm nz"}
CONFIGS = {
    "st": {"model_conf": {"asr_weight": 0.3, "mtlalpha": 1.0, "st_mtlalpha": 0.3}},
    "slu": {},
    "sum": {},
}
OPTIONS = {"beam_size": 3, "maxlenratio": -12, "nbest": 2}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request, tmp_path_factory):
    """The directory of a model with random weights, and its task."""
    task = request.param
    directory = tmp_path_factory.mktemp(f"{task}_model") / "exp"
    save_model(directory, task, "mtla", **CONFIGS[task])
    (directory / "inference.yaml").unlink()  # ESPnet's class does not look at it
    return task, directory


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A set that has what each task reads."""
    directory = tmp_path_factory.mktemp("set")
    random = np.random.default_rng(0)
    lengths = {}
    for name in TEXTS:
        length = lengths[name] = int(random.integers(3000, 9000))
        samples = 0.4 * np.sin(np.arange(length) * random.uniform(0.05, 1.5))
        samples += random.normal(0, 0.05, length)
        soundfile.write(directory / f"{name}.flac", samples.clip(-1, 0.999), RATE_HZ)
    write_table(directory / "wav.scp", {name: directory / f"{name}.flac" for name in TEXTS})
    write_table(directory / "utt2num_samples", lengths)
    write_table(directory / "src_text", TEXTS)
    return directory


def inputs_of(task, data, found):
    """What a user gives, by id; text as tokens, which is what ESPnet's class takes."""
    if task == "sum":
        return {key: found.prepare(0, text)["src_text"] for key, text in TEXTS.items()}
    wavs = read_table(data / "wav.scp")
    return {key: soundfile.read(path, dtype="float32")[0] for key, path in wavs.items()}


def peer(task, directory, **options):
    """ESPnet's own class."""
    if task == "st":
        from espnet2.bin.st_inference import Speech2Text as Peer
    elif task == "slu":
        from espnet2.bin.slu_inference import Speech2Understand as Peer
    else:
        from espnet2.bin.mt_inference import Text2Text as Peer
    return Peer(directory / "config.yaml", directory / "valid.acc.ave.pth", **options)


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_the_best_hypotheses_are_espnets(model, data, ctc_weight):
    task, directory = model
    if task == "sum" and ctc_weight:
        pytest.skip("ESPnet's model of text has no CTC")
    options = OPTIONS | {"ctc_weight": ctc_weight}
    ours, theirs = model_class(task).from_pretrained(directory, **options), None
    theirs = peer(task, directory, **options)
    inputs = inputs_of(task, data, ours)
    texts = set()
    together = ours(list(inputs.values()))
    for value, batched in zip(inputs.values(), together, strict=True):
        expected = theirs(torch.as_tensor(value))
        for found in (ours(value), batched):
            assert len(found) == len(expected) == 2
            for a, b in zip(found, expected, strict=True):
                # at the length limit ESPnet appends <sos/eos> to what has just ended as well
                assert a[2] == [token for token in b[2] if token != len(TARGET) - 1]
                assert a[0].strip() == b[0].removesuffix("<sos/eos>").strip()
                assert a[3].score == pytest.approx(float(b[3].score), abs=1e-3)
        texts |= {text for text, *_ in batched}
    assert len(texts) > 2, "hypotheses that do not differ compare nothing"


def decoded(model, data, output, **changes):
    task, directory = model
    arguments = {
        "task": task,
        "train_config": directory / "config.yaml",
        "model_file": directory / "valid.acc.ave.pth",
        "token_list": None,
        "inference_config": OPTIONS,
        "data_dir": data,
        "keys": None,
        "output_dir": output,
        "batch_size": 2,
        "max_memory_bytes": None,
        "ngpu": 0,
        "progress": False,
    }
    return decode(**arguments | changes)


def test_a_set_is_decoded_whatever_the_task(model, data, tmp_path):
    task, directory = model
    cost, failed = decoded(model, data, tmp_path)
    assert failed == {}
    found = read_table(tmp_path / "1best_recog/text")
    single = model_class(task).from_pretrained(directory, **OPTIONS)
    for key, value in inputs_of(task, data, single).items():
        assert found[key] == single(value)[0][0]
    assert (cost["utterances"], cost["attention"]) == (5, "mtla")
    assert (cost["audio_s"] > 0) is (task != "sum")
    assert (cost["rtf"] is None) is (task == "sum")


def test_a_set_that_cannot_be_decoded(model, data, tmp_path):
    task, _ = model
    table = "src_text" if task == "sum" else "wav.scp"
    with pytest.raises(UserError, match=f"{table}: no line for 'utt9'"):
        decoded(model, data, tmp_path / "out", keys=["utt9"])
    with pytest.raises(UserError, match=f"{table}: no such file"):
        decoded(model, tmp_path, tmp_path / "out")
    other = next(name for name in TASKS if name != task)
    with pytest.raises(UserError, match="config.yaml: is of a model of .*, not of "):
        decoded(model, data, tmp_path / "out", task=other)
    assert not (tmp_path / "out").exists()


def test_an_empty_document_is_named(model, data, tmp_path):
    task, directory = model
    if task != "sum":
        pytest.skip("speech has no documents")
    write_table(tmp_path / "src_text", TEXTS | {"utt6": ""})
    with pytest.raises(UserError, match="src_text: 'utt6' is empty"):
        decoded(model, tmp_path, tmp_path / "out")
    text2text = model_class(task).from_pretrained(directory, beam_size=2)
    with pytest.raises(UserError, match="text 0 is empty"):
        text2text("  ")
    with pytest.raises(UserError, match="text 0 has tokens beyond the 10 of the source"):
        text2text(torch.tensor([3, 10]))


def test_ctc_that_is_not_there_is_said(model):
    task, directory = model
    if task != "sum":
        pytest.skip("these models have CTC")
    with pytest.raises(UserError, match="the model has no CTC: decode with ctc_weight 0"):
        model_class(task).from_pretrained(directory, ctc_weight=0.3)


def test_the_command_line_gives_what_the_class_does(model, data, tmp_path, capsys):
    task, directory = model
    verb = TASKS[task].verb[0]
    keys = list(TEXTS)[:3]
    if task == "sum":
        paths = [tmp_path / f"{key}.txt" for key in keys]
        for key, path in zip(keys, paths, strict=True):
            path.write_text(TEXTS[key].replace(" ", "\n"))
        inputs = [TEXTS[key] for key in keys]
    else:
        paths = [data / f"{key}.flac" for key in keys]
        inputs = [soundfile.read(path, dtype="float32")[0] for path in paths]
    config = tmp_path / "decode.yaml"
    config.write_text("beam_size: 3\nmaxlenratio: -12\nctc_weight: 0.0\n")
    arguments = [verb, "--model", str(directory), "--inference_config", str(config)]
    assert main([*arguments, "--device", "cpu", *map(str, paths)]) == 0
    ours = model_class(task).from_pretrained(
        directory, beam_size=3, maxlenratio=-12, ctc_weight=0.0
    )
    lines = [f"{path}: {results[0][0]}" for path, results in zip(paths, ours(inputs), strict=True)]
    assert capsys.readouterr().out.splitlines() == lines
