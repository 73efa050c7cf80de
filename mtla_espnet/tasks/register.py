"""Make our classes choices of ESPnet's ASR, ST, SLU and MT tasks.

ESPnet has no plug-in mechanism: a task's choices are `ClassChoices` objects at module level
with a dict of classes, which we extend. A registration is lost in the worker processes that
ESPnet spawns for several GPUs. So each task class is also replaced, in ESPnet's own module,
by a subclass that is defined here: a spawned worker unpickles that class by name, which
imports this package, which registers again.
"""

import functools
import importlib

import espnet2.tasks.abs_task
import espnet2.tasks.asr
import espnet2.tasks.lm
import espnet2.tasks.mt
import espnet2.tasks.slu
import espnet2.tasks.st
import espnet2.train.dataset
import espnet2.train.iterable_dataset
from espnet2.torch_utils.load_pretrained_model import load_pretrained_model

from mtla_espnet.data.features.reader import FeatureTable, read_features
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.encoder.conv1d_subsampling import (
    Conv1dConformerEncoder,
    Conv1dTransformerEncoder,
)
from mtla_espnet.files import reading
from mtla_espnet.frontend.fbank import FbankFrontend
from mtla_espnet.frontend.pretrained import StoredLayersFrontend
from mtla_espnet.frontend.s3prl import S3prlFrontend
from mtla_espnet.frontend.transformers import TransformersFrontend
from mtla_espnet.task.record import Task
from mtla_espnet.tasks import losses, own_tasks
from mtla_espnet.tasks.slu_model import DecoderOnlySLUModel
from mtla_espnet.trust import nothing_runs

ENCODERS = {
    "conv1d_conformer": Conv1dConformerEncoder,
    "conv1d_transformer": Conv1dTransformerEncoder,
}
DECODERS = {"decoder_only": DecoderOnly}
SLU_MODELS = {"decoder_only_slu": DecoderOnlySLUModel}
FRONTENDS = {
    "fbank": FbankFrontend,
    "s3prl": S3prlFrontend,
    "stored_layers": StoredLayersFrontend,
    "transformers": TransformersFrontend,
}


def register() -> None:
    """Register our classes and tasks in ESPnet; a second call changes nothing.

    To be called (`import mtla_espnet.tasks` does) before `espnet2.bin.<task>_train` is
    imported: that module takes its task class at import.
    """
    for module, task in (
        (espnet2.tasks.asr, own_tasks.ASRTask),
        (espnet2.tasks.st, own_tasks.STTask),
        (espnet2.tasks.slu, own_tasks.SLUTask),
        (espnet2.tasks.mt, own_tasks.MTTask),
    ):
        module.encoder_choices.classes.update(ENCODERS)
        module.decoder_choices.classes.update(DECODERS)
        if hasattr(module, "frontend_choices"):  # mt reads text
            module.frontend_choices.classes.update(FRONTENDS)
        setattr(module, task.__name__, task)
    espnet2.tasks.slu.model_choices.classes.update(SLU_MODELS)
    espnet2.tasks.lm.LMTask = own_tasks.LMTask
    for name in ("asr", "st", "slu", "mt"):
        module = importlib.import_module(f"espnet2.{name}.espnet_model")
        for quick in (
            losses.LabelSmoothingLoss,
            losses.add_sos_eos,
            losses.force_gatherable,
            losses.th_accuracy,
        ):
            if hasattr(module, quick.__name__):
                setattr(module, quick.__name__, quick)
        if name != "mt":  # which has none
            importlib.import_module(f"espnet2.tasks.{name}").CTC = losses.CTC
    # A type of data: `feats.scp,speech,fairseq_zip`.
    espnet2.train.dataset.DATA_TYPES["fairseq_zip"] = {
        "func": FeatureTable,
        "kwargs": [],
        "help": "Features in zip files: utterance_id_A /some/where/a.zip:<offset>:<bytes>",
    }
    espnet2.train.iterable_dataset.DATA_TYPES["fairseq_zip"] = read_features
    # Its --init_param, which our option --pretrained_model is.
    espnet2.tasks.abs_task.load_pretrained_model = _load_pretrained_model


@functools.wraps(load_pretrained_model)
def _load_pretrained_model(init_param: str, *arguments, **keywords) -> None:
    path = init_param.partition(":")[0]
    with nothing_runs(path), reading(path, "cannot be started from"):
        load_pretrained_model(init_param, *arguments, **keywords)


def task_class(task: Task) -> type:
    """Return our class of a task, which ESPnet trains and builds models by."""
    return getattr(own_tasks, task.espnet_task)


def run_espnet(module: str, argv: list[str]) -> None:
    """Run an ESPnet program in this process, with our classes registered.

    Args:
        module: a module of ESPnet with a `main(cmd)`, such as `espnet2.bin.asr_train`.
        argv: its arguments, without the program's name.

    Raises:
        SystemExit: argparse refused the arguments, or --help or --print_config was given.
        Exception: whatever the program raises.
    """
    importlib.import_module(module).main(cmd=argv)
