"""The encoder of a Whisper in CTranslate2's format, as a folder for `frontend: transformers`.

`model.bin` (little-endian): uint32 version, the name of the model's kind, uint32 revision,
uint32 number of tensors; a tensor: its name, uint8 rank, uint32 sizes, uint8 type (0 float32,
1 int8, 2 int16, 3 int32, 4 float16), uint32 bytes, the values. A name has a uint16 length and
ends in a zero byte. Source: CTranslate2's `python/ctranslate2/specs/model_spec.py`, version 6.
`linear_0` of self-attention holds query, key and value, one above the other; Whisper's key has
no bias, and its part of that of `linear_0` is left out.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mtla_espnet.files import UserError, atomic_path, open_file, reading
from mtla_espnet.json_files import read_json, write_json

_VERSION = 6
_KIND = "WhisperSpec"
_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_NORMS = {"self_attention/layer_norm": "self_attn_layer_norm", "ffn/layer_norm": "final_layer_norm"}
_LINEARS = {
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}


def import_whisper(source: str | os.PathLike, folder: str | os.PathLike) -> None:
    """Write `config.json` and `model.safetensors` (float16 as stored) of a Whisper's encoder.

    `config.json` is written last: with it, all is there.

    Args:
        source: `model.bin`, or the directory that holds it.
        folder: where to write.

    Raises:
        UserError: the file is missing, cut off, of another kind or version, quantised, or
            lacks a tensor, which is named.
    """
    from safetensors.numpy import save

    path = Path(source)
    path = path / "model.bin" if path.is_dir() else path
    tensors = read_tensors(path)
    state = encoder_state(tensors, path)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    with atomic_path(folder / "model.safetensors") as temporary:
        temporary.write_bytes(save(state, metadata={"format": "pt"}))
    write_json(folder / "config.json", _config(tensors, state, path))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a Whisper in CTranslate2's format.

    Raises:
        UserError: the file is missing, cut off, of another kind or version, or quantised.
    """
    with open_file(path) as stream, reading(path, "cut off or damaged"):
        version = _number(stream, "I")
        kind = _name(stream) if version == _VERSION else ""
        if kind != _KIND:
            raise UserError(
                f"{path}: not a Whisper of CTranslate2's format version {_VERSION} "
                f"(version {version}, kind {kind!r})"
            )
        _number(stream, "I")  # revision of the kind
        return dict(_tensor(stream) for _ in range(_number(stream, "I")))


def encoder_state(tensors: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Return the weights of the encoder by the names of transformers' `WhisperEncoder`.

    Raises:
        UserError: a tensor is missing or quantised; it is named.
    """

    def take(name: str) -> np.ndarray:
        if name not in tensors:
            raise UserError(f"{path}: has no tensor {name!r}")
        if tensors[name].dtype.kind != "f":
            raise UserError(f"{path}: tensor {name!r} is quantised: convert the model in float16")
        return np.ascontiguousarray(tensors[name])

    state = {"embed_positions.weight": take("encoder/position_encodings/encodings")}
    for end, name in (("weight", "gamma"), ("bias", "beta")):
        state[f"layer_norm.{end}"] = take(f"encoder/layer_norm/{name}")
    for end in ("weight", "bias"):
        for conv in ("conv1", "conv2"):
            state[f"{conv}.{end}"] = take(f"encoder/{conv}/{end}")
    num_layers = 0
    while f"encoder/layer_{num_layers}/ffn/linear_0/weight" in tensors:
        there, here = f"encoder/layer_{num_layers}", f"layers.{num_layers}"
        for source, target in _NORMS.items():
            state[f"{here}.{target}.weight"] = take(f"{there}/{source}/gamma")
            state[f"{here}.{target}.bias"] = take(f"{there}/{source}/beta")
        for end in ("weight", "bias"):
            for source, target in _LINEARS.items():
                state[f"{here}.{target}.{end}"] = take(f"{there}/{source}/{end}")
            query, key, value = np.split(take(f"{there}/self_attention/linear_0/{end}"), 3)
            state[f"{here}.self_attn.q_proj.{end}"] = query.copy()
            state[f"{here}.self_attn.v_proj.{end}"] = value.copy()
            if end == "weight":
                state[f"{here}.self_attn.k_proj.weight"] = key.copy()
        num_layers += 1
    if not num_layers:
        take("encoder/layer_0/ffn/linear_0/weight")
    return state


def _config(tensors: dict[str, np.ndarray], state: dict[str, np.ndarray], path: Path) -> dict:
    width, bins, _ = state["conv1.weight"].shape
    heads = tensors.get("encoder/num_heads")
    if heads is None:
        raise UserError(f"{path}: has no tensor 'encoder/num_heads'")
    inner = [name for name in state if name.endswith(".fc1.weight")]
    return {
        "architectures": ["WhisperEncoder"],
        "model_type": "whisper",
        "activation_function": "gelu",
        "d_model": int(width),
        "num_mel_bins": int(bins),
        "encoder_layers": len(inner),
        "encoder_attention_heads": int(heads),
        "encoder_ffn_dim": int(state[inner[0]].shape[0]),
        "max_source_positions": int(state["embed_positions.weight"].shape[0]),
        "scale_embedding": False,
    }


def _number(stream: BinaryIO, code: str) -> int:
    size = struct.calcsize(f"<{code}")
    return struct.unpack(f"<{code}", stream.read(size))[0]


def _name(stream: BinaryIO) -> str:
    length = _number(stream, "H")
    return stream.read(length).removesuffix(b"\0").decode("utf-8")


def _tensor(stream: BinaryIO) -> tuple[str, np.ndarray]:
    name = _name(stream)
    sizes = [_number(stream, "I") for _ in range(_number(stream, "B"))]
    kind = np.dtype(_TYPES[_number(stream, "B")])
    data = stream.read(_number(stream, "I"))
    return name, np.frombuffer(data, kind).reshape(sizes)


def add_arguments(parser) -> None:
    """Declare the options of `mtla-espnet import_whisper`."""
    parser.add_argument("model", type=Path, help="model.bin, or the directory that holds it")
    parser.add_argument("folder", type=Path, help="where to write config.json and the weights")


def run(arguments) -> int:
    """Do what `mtla-espnet import_whisper` asks for."""
    import_whisper(arguments.model, arguments.folder)
    config = read_json(arguments.folder / "config.json")
    layers, width = config["encoder_layers"], config["d_model"]
    print(f"{arguments.folder}: an encoder of {layers} layers, d {width}")
    return 0
