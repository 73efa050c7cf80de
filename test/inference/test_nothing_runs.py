"""Canaries in every place of a model from elsewhere: none runs, whatever library opens the file.

The classes are those that ESPnet's tasks let choose, with ours, and the upstreams are those of
S3PRL: what is new in either is tried too.
"""

import inspect
import json
import os
import pickle

import pytest
import torch

from hostile_packs import Canary, Foreign, pickled_archive
from mtla_espnet.files import UserError
from mtla_espnet.inference.speech2text import Speech2Text
from mtla_espnet.trust import files_trusted, nothing_runs

pytestmark = pytest.mark.espnet
TASKS = ("asr", "st", "slu", "mt", "lm")


@pytest.fixture
def canary(tmp_path):
    return Canary(tmp_path)


@pytest.fixture
def foreign(model, tmp_path):
    (tmp_path / "foreign").mkdir()
    return Foreign(model, tmp_path / "foreign")


@pytest.fixture(autouse=True)
def without_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("ESPNET_ALLOW_UNSAFE_TORCH_LOAD", "1")
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)


@pytest.fixture
def traps(tmp_path, canary):
    """Files that run a canary when they are opened carelessly: a pickle, and a hub's folder."""
    file = tmp_path / "trap.pt"
    torch.save({"model": canary, "cfg": canary, "Config": canary, "state_dict": canary}, file)
    folder = tmp_path / "folder"
    folder.mkdir()
    code = f"{canary.expression}\nclass A: pass\n"
    (folder / "evil.py").write_text(code)
    names = {name: "evil.A" for name in ("AutoConfig", "AutoModel", "AutoTokenizer")}
    config = {"model_type": "hubert", "auto_map": names, "hidden_size": 16}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": names}))
    torch.save({"weight": canary}, folder / "pytorch_model.bin")
    (folder / "plain.pkl").write_bytes(pickle.dumps(canary))
    return [str(file), str(folder)]


def classes():
    """Every class that a configuration can choose: task, kind, name, class."""
    import importlib

    from mtla_espnet.tasks.register import register

    register()
    for task in TASKS:
        module = importlib.import_module(f"espnet2.tasks.{task}")
        kind = next(value for name, value in vars(module).items() if name.lower() == f"{task}task")
        for choices in kind.class_choices_list:
            for name, cls in choices.classes.items():
                yield task, choices.name, name, cls


def takes_text(parameter):
    annotation = str(parameter.annotation)
    return parameter.default is None or isinstance(parameter.default, str) or "str" in annotation


def attempts(cls, traps):
    """Arguments for a class, of which one names a trap."""
    parameters = [
        each for each in inspect.signature(cls).parameters.values()
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]  # fmt: skip
    needed = {
        each.name: 16 for each in parameters if each.default is each.empty and not takes_text(each)
    }
    for each in parameters:
        if takes_text(each):
            for trap in traps:
                yield needed | {each.name: trap}


def test_no_class_that_can_be_chosen_runs_it(traps, canary):
    seen, tried = set(), 0
    for _, kind, _, cls in classes():
        if cls in seen or kind in ("optim", "scheduler"):
            continue
        seen.add(cls)
        # a module without a word of loading makes weights alone, which cost time
        device = "cpu" if "load" in inspect.getsource(inspect.getmodule(cls)) else "meta"
        for arguments in attempts(cls, traps):
            tried += 1
            try:
                with nothing_runs(traps[0]), torch.device(device):
                    cls(**arguments)
            except BaseException as error:  # any refusal will do
                assert not isinstance(error, KeyboardInterrupt)
    assert len(seen) > 60 and tried > 100
    assert not canary.has_run


LITERAL = ("conv_feature_layers", "extractor_conv_feature_layers", "feature_enc_layers")


def checkpoints(canary):
    """Checkpoints in the forms of S3PRL's families: with a pickle, or with a text to evaluate."""
    text = {name: canary.expression for name in LITERAL}
    yield {name: canary for name in ("model", "cfg", "Config", "model_cfg", "config")}
    yield {
        "cfg": text,
        "model_cfg": text,
        "Config": {"distiller": text},
        "config": text,
        "task_cfg": {"normalize": False},
        "model_weight": 0,
        "model": 0,
        "dictionaries_symbols": [["a"]],
        "Distiller": {},
    }


def test_no_upstream_runs_it(tmp_path, canary):
    from s3prl.nn import S3PRLUpstream

    from mtla_espnet.frontend.s3prl import load_upstream

    file, tried, refused = tmp_path / "trap.pt", 0, 0
    names = [
        name
        for name in S3PRLUpstream.available_names()
        if name.endswith(("_local", "_custom")) or "convert" in name
    ]
    for checkpoint in checkpoints(canary):
        torch.save(checkpoint, file)
        for name in names:
            tried += 1
            try:
                load_upstream({"upstream": name, "path_or_url": str(file)})
            except UserError as error:
                refused += 1
                assert "\n" not in str(error)
    assert tried > 40 and refused > 0.9 * tried  # some need no checkpoint
    assert not canary.has_run


def test_an_upstream_is_told_how_it_could_be_loaded(tmp_path, canary):
    from mtla_espnet.frontend.s3prl import load_upstream

    file = tmp_path / "trap.pt"
    torch.save({"Config": canary}, file)
    options = {"upstream": "distiller_local", "path_or_url": str(file)}
    with pytest.raises(UserError, match=r"trap.pt: holds \w+.open, which would run as code: .*"
                                        "--trust_files true"):  # fmt: skip
        load_upstream(options)
    assert not canary.has_run
    with files_trusted(), pytest.raises(UserError, match="not a checkpoint of distiller_local"):
        load_upstream(options)
    assert canary.has_run, "the canary is alive"


def s3prl(upstream, file="exp/trap.pt", **more):
    return {"frontend": "s3prl", "frontend_conf": {
        "fs": 16000, "frontend_conf": {"upstream": upstream, "path_or_url": file, **more}
    }}  # fmt: skip


PLACES = {
    "weights": lambda foreign, canary: foreign.save("exp/asr/9epoch.pth", {"a": canary}),
    "statistics": lambda foreign, canary: foreign.members.update(
        {"exp/stats/stats.npz": pickled_archive(canary)}
    ),
    "YAML": lambda foreign, canary: foreign.members.update(
        {"exp/asr/config.yaml": b"token_list: !!python/object/apply:os.system ['true']\n"}
    ),
    "bpemodel": lambda foreign, canary: foreign.configure(
        token_type="bpe", bpemodel="exp/trap.pt"
    ),
    "tokenizer": lambda foreign, canary: foreign.configure(
        token_type="hugging_face", bpemodel="exp/folder"
    ),
    "distiller_local": lambda foreign, canary: foreign.configure(**s3prl("distiller_local")),
    "mockingjay_local": lambda foreign, canary: foreign.configure(**s3prl("mockingjay_local")),
    "wavlm_local": lambda foreign, canary: foreign.configure(
        **s3prl("wavlm_local", "exp/text.pt")
    ),
    "extra_conf": lambda foreign, canary: foreign.configure(
        **s3prl("fbank", None, extra_conf={"ckpt": "exp/trap.pt"})
    ),
    "transformers": lambda foreign, canary: foreign.configure(
        frontend="transformers", frontend_conf={"model": "exp/folder"}
    ),
    "huggingface": lambda foreign, canary: foreign.configure(
        frontend="huggingface", frontend_conf={"model": "exp/folder"}
    ),
    "beats": lambda foreign, canary: foreign.configure(
        encoder="beats", encoder_conf={"beats_ckpt_path": "exp/trap.pt"}
    ),
    "avhubert": lambda foreign, canary: foreign.configure(
        encoder="avhubert", encoder_conf={"avhubert_dir_path": "exp", "avhubert_url": "trap.pt"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["pack", "unpack"])
@pytest.mark.parametrize("place", PLACES)
def test_no_place_of_a_model_runs_it(foreign, canary, traps, place, kind):
    """A pack, and the directory of an experiment."""
    file, folder = traps
    with open(file, "rb") as stream:
        foreign.members["exp/trap.pt"] = stream.read()
    for name in os.listdir(folder):
        with open(f"{folder}/{name}", "rb") as stream:
            foreign.members[f"exp/folder/{name}"] = stream.read()
    foreign.save("exp/text.pt", list(checkpoints(canary))[1])
    PLACES[place](foreign, canary)
    with pytest.raises(UserError) as error:
        Speech2Text.from_pretrained(getattr(foreign, kind)(), beam_size=1)
    assert "\n" not in str(error.value)
    assert not canary.has_run


def test_a_model_to_start_from_runs_nothing(traps, canary):
    from espnet2.tasks import abs_task

    import mtla_espnet.tasks  # noqa: F401  (registers)

    with pytest.raises(UserError, match="trap.pt: holds .*open, which would run as code"):
        abs_task.load_pretrained_model(traps[0], torch.nn.Linear(1, 1), False)
    assert not canary.has_run


def test_the_command_tells_it_in_one_line(foreign, canary, tmp_path, capsys):
    import numpy as np
    import soundfile

    from mtla_espnet.cli import main

    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    foreign.save("exp/trap.pt", {"Config": canary}).configure(**s3prl("distiller_local"))
    argv = ["transcribe", "--model", str(foreign.pack()), str(tmp_path / "a.wav")]
    assert main(argv) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {foreign.directory}/foreign.zip/exp/trap.pt: holds ")
    assert not canary.has_run
    assert main([*argv, "--trust_files", "true"]) == 1
    assert canary.has_run, "the canary is alive"
