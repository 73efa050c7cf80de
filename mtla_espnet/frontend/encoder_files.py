"""Files of the layers of pretrained encoders: `mtla-espnet feats s3prl` and `transformers`.

A frozen encoder gives the same for an utterance in every epoch, so its layers can be stored
once. All layers are stored side by side, (N, layers x width), for `frontend: stored_layers`,
which learns their weighted sum in training; one layer is a plain feature.
"""

import argparse
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from mtla_espnet.data.features.format import Extractor
from mtla_espnet.files import UserError
from mtla_espnet.frontend import files
from mtla_espnet.frontend.pretrained import DTYPES, RATE_HZ, PretrainedFrontend
from mtla_espnet.jobs.devices import devices_of
from mtla_espnet.json_files import digest
from mtla_espnet.trust import add_trust_argument, files_trusted

FORMS = ("ark", "zip")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    files.add_arguments(parser)
    parser.add_argument(
        "--model",
        required=True,
        help="transformers: a folder or a hub's id; s3prl: the name of an upstream",
    )
    parser.add_argument("--path_or_url", help="s3prl: the checkpoint of a ..._local upstream")
    parser.add_argument("--download_dir", help="s3prl: where it keeps what it fetches")
    parser.add_argument(
        "--layer", default="all", help="a number from 0 (-1: the last), or all, side by side"
    )
    parser.add_argument(
        "--form", dest="files_form", default="ark", choices=FORMS, help="kind of files"
    )
    parser.add_argument(
        "--device", default="cpu", help="cpu, or cuda: --nj processes, by default one a GPU"
    )
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES), help="precision")
    add_trust_argument(parser)


def write(arguments: argparse.Namespace, kind: str) -> None:
    """Write the layers of an encoder as features of data directories.

    Args:
        arguments: of the command, as `add_arguments` declares them.
        kind: "s3prl" or "transformers".

    Raises:
        UserError: the encoder cannot be loaded or has no such layer, a data directory is bad, or
            too many utterances are left out.
    """
    if arguments.fs != RATE_HZ:
        raise UserError(f"--fs {arguments.fs}: pretrained encoders read {RATE_HZ} Hz", 2)
    layer = _layer(arguments.layer)
    conf = _frontend_conf(arguments, kind)
    devices = _devices(arguments)
    load = functools.partial(load_trusted, kind, conf, arguments.trust_files)
    frontend = load("cpu" if devices or arguments.parallel else arguments.device)
    if layer is not None:
        layer = _check_layer(frontend, layer)
    source = {"frontend": kind, "frontend_conf": conf, "layer": layer}
    load_there = functools.partial(load, arguments.device)
    extractor = layer_extractor(frontend, _name(arguments, kind), layer, source, load_there)
    files.write_files(arguments, extractor, arguments.files_form, devices)
    if layer is None:
        logging.info(
            "train on them with frontend: stored_layers, frontend_conf: {num_layers: %d, "
            "layer_size: %d}",
            frontend.layer_sum.num_layers,
            frontend.output_size(),
        )


def layer_extractor(
    frontend: PretrainedFrontend,
    name: str,
    layer: int | None,
    source: Mapping[str, object] | None = None,
    load: Callable[[], PretrainedFrontend] | None = None,
) -> Extractor:
    """Return what computes the layers of an utterance.

    Args:
        frontend: in evaluation mode.
        name: stands for everything that the features depend on.
        layer: from 0; None: all, side by side.
        source: `frontend`, `frontend_conf` and `layer`, kept beside the features so that a model
            can be given audio later.
        load: loads it in a process that is sent what computes; None: it is not sent.
    """
    compute = _StoredLayers(layer, load, frontend)
    return Extractor(name, compute, frontend.hop_length / RATE_HZ, source)


@dataclasses.dataclass
class _StoredLayers:
    """Computes layers; where it is pickled, the encoder itself is left out and loaded there.

    Args:
        layer: from 0; None: all, side by side.
        load: loads the encoder.
        frontend: it is loaded already.
    """

    layer: int | None
    load: Callable[[], PretrainedFrontend] | None
    frontend: PretrainedFrontend | None

    def __call__(self, samples: np.ndarray, rate_hz: int) -> np.ndarray:
        if self.frontend is None:
            self.frontend = self.load()
        speech = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))[None]
        with torch.inference_mode():
            states, frames = self.frontend.layers(
                speech.to(_device(self.frontend)), torch.tensor([speech.size(1)])
            )
            chosen = states if self.layer is None else [states[self.layer]]
            stored = torch.cat([state[0, : int(frames[0])].float() for state in chosen], dim=1)
        return stored.cpu().numpy()

    def __reduce__(self):
        return type(self), (self.layer, self.load, None)


def _devices(arguments: argparse.Namespace) -> list[str]:
    """Return the GPU of each process that computes; empty: no such processes are needed.

    Raises:
        UserError: there is no GPU, or one is named and more processes are wanted.
    """
    device, nj = arguments.device, arguments.nj
    if device == "cpu" or arguments.parallel:
        return []
    devices = devices_of(nj) if device == "cuda" else [device] * (nj or 1)
    if not devices:
        raise UserError(f"--device {device}: no GPU is visible", 2)
    if device != "cuda" and nj not in (None, 1):
        raise UserError(f"--device {device}: one process has it, add --nj 1", 2)
    arguments.nj = len(devices)
    return devices if len(devices) > 1 else []


def _device(frontend: PretrainedFrontend) -> torch.device:
    # The `fbank` upstream of S3PRL, for one, has no weights.
    return next((each.device for each in frontend.parameters()), torch.device("cpu"))


def load_trusted(
    kind: str, conf: Mapping[str, object], trust_files: bool, device: str
) -> PretrainedFrontend:
    """Load a pretrained front end for evaluation.

    Args:
        kind: "s3prl" or "transformers".
        conf: its options.
        trust_files: its files may run code.
        device: where it computes.

    Raises:
        UserError: it cannot be loaded.
    """
    with files_trusted(trust_files):
        return load_encoder(kind, conf).eval().to(device)


def load_encoder(kind: str, conf: Mapping[str, object]) -> PretrainedFrontend:
    """Load a pretrained front end.

    Args:
        kind: "s3prl" or "transformers".
        conf: its options.

    Raises:
        UserError: it cannot be loaded.
    """
    if kind == "transformers":
        from mtla_espnet.frontend.transformers import TransformersFrontend

        return TransformersFrontend(**conf)
    from mtla_espnet.frontend.s3prl import S3prlFrontend

    return S3prlFrontend(**conf)


def _frontend_conf(arguments: argparse.Namespace, kind: str) -> dict:
    """Return the options of the front end that the command names."""
    if kind == "transformers":
        return {"model": arguments.model, "dtype": arguments.dtype}
    options = {"upstream": arguments.model}
    if arguments.path_or_url:
        options["path_or_url"] = arguments.path_or_url
    return {
        "frontend_conf": options,
        "download_dir": arguments.download_dir,
        "multilayer_feature": True,
        "dtype": arguments.dtype,
    }


def _layer(text: str) -> int | None:
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--layer must be a number or all, not {text!r}", exit_code=2) from None


def _check_layer(frontend: PretrainedFrontend, layer: int) -> int:
    """Return the number of a layer from 0."""
    count = frontend.layer_sum.num_layers
    if not -count <= layer < count:
        raise UserError(f"--layer {layer}: there are layers 0 to {count - 1}, or -1: the last", 2)
    return layer % count


def _name(arguments: argparse.Namespace, kind: str) -> str:
    """Name the features by the encoder, and by a digest of all that they depend on."""
    source = Path(arguments.path_or_url or arguments.model)
    weights = sorted(source.glob("*")) if source.is_dir() else [source]
    stamps = [
        (str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns)
        for path in weights
        if path.is_file()
    ]
    facts = [kind, arguments.model, arguments.path_or_url, arguments.layer, arguments.dtype, stamps]
    label = "".join(c if c.isalnum() or c in "-._" else "_" for c in Path(arguments.model).name)
    return f"{kind}-{label}-layer_{arguments.layer}-{digest(facts)[:6]}"
