import json
import multiprocessing

import espnet2.tasks.asr
import espnet2.tasks.mt
import espnet2.tasks.slu
import espnet2.tasks.st
import numpy as np
import pytest

import mtla_espnet.tasks
from mtla_espnet.data.archives.fairseq_zip import FeatureZip
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.encoder.conv1d_subsampling import (
    Conv1dConformerEncoder,
    Conv1dTransformerEncoder,
)
from mtla_espnet.tasks.register import register, run_espnet
from mtla_espnet.tasks.trainer import Trainer

pytestmark = pytest.mark.espnet

TASKS = [
    (espnet2.tasks.asr, "ASRTask"),
    (espnet2.tasks.st, "STTask"),
    (espnet2.tasks.slu, "SLUTask"),
    (espnet2.tasks.mt, "MTTask"),
]


@pytest.mark.parametrize(("module", "name"), TASKS)
def test_importing_the_tasks_registers_our_classes(module, name):
    assert module.decoder_choices.get_class("decoder_only") is DecoderOnly
    assert module.encoder_choices.get_class("conv1d_conformer") is Conv1dConformerEncoder
    assert module.encoder_choices.get_class("conv1d_transformer") is Conv1dTransformerEncoder
    task = getattr(module, name)
    assert task.__module__.startswith(mtla_espnet.tasks.__name__)
    assert task.trainer is Trainer


@pytest.mark.parametrize(("module", "name"), TASKS)
def test_registering_again_changes_nothing(module, name):
    task, choices = getattr(module, name), dict(module.decoder_choices.classes)
    register()
    assert getattr(module, name) is task
    assert module.decoder_choices.classes == choices
    assert task.__mro__[2].__module__ == module.__name__


def test_a_spawned_worker_has_the_registration(corpus, tmp_path):
    # ESPnet spawns a bound method of the task for each GPU; so does this.
    arguments = [*corpus.arguments(tmp_path), "--dry_run", "true"]
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=espnet2.tasks.asr.ASRTask.main, kwargs={"cmd": arguments})
    child.start()
    child.join()
    assert child.exitcode == 0
    assert "decoder: decoder_only" in (tmp_path / "config.yaml").read_text()


def test_run_espnet_trains_a_model_and_writes_its_cost(corpus, tmp_path):
    run_espnet("espnet2.bin.asr_train", corpus.arguments(tmp_path))
    summary = json.loads((tmp_path / "training.json").read_text())
    assert summary["epochs"] == 2 and summary["updates"] == 4
    assert (tmp_path / "valid.acc.ave_2best.pth").exists()


def test_run_espnet_refuses_an_unknown_choice(corpus, tmp_path, capsys):
    arguments = [*corpus.arguments(tmp_path), "--decoder", "decoder_mostly"]
    with pytest.raises(SystemExit) as caught:
        run_espnet("espnet2.bin.asr_train", arguments)
    assert caught.value.code == 2
    assert "decoder_mostly" in capsys.readouterr().err


def test_features_in_zips_are_a_type_of_data(tmp_path):
    from espnet2.train.dataset import ESPnetDataset
    from espnet2.train.iterable_dataset import IterableESPnetDataset

    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    with FeatureZip(tmp_path / "a.zip") as archive:
        offset, size = archive.add("ü", features)
    (tmp_path / "feats.scp").write_text(f"utt1 {tmp_path}/a.zip:{offset}:{size}\n")
    columns = [(f"{tmp_path}/feats.scp", "speech", "fairseq_zip")]
    for key, data in (
        ESPnetDataset(columns)["utt1"],
        next(iter(IterableESPnetDataset(columns))),
    ):
        assert key == "utt1"
        np.testing.assert_array_equal(data["speech"], features)
