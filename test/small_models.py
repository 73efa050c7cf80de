"""Trained models of random weights, a few kilobytes each, for tests of what uses models."""

import argparse
from pathlib import Path

import torch
import yaml

TARGET = ["<blank>", "<unk>", "<space>", *"abcdefghijk", "<sos/eos>"]
SOURCE = ["<blank>", "<unk>", "<space>", *"lmnopq", "<sos/eos>"]
SPEECH = {
    "frontend_conf": {"fs": 8000, "n_fft": 256, "hop_length": 80, "n_mels": 20, "center": False},
    "normalize": "utterance_mvn",
    "encoder": "conv1d_conformer",
}
TEXT = {
    "frontend": "embed",
    "frontend_conf": {"embed_dim": 16},
    "encoder": "transformer",
    "src_token_list": SOURCE,
    "src_token_type": "char",
}
TRANSLATED = SPEECH | {"src_token_list": SOURCE, "src_token_type": "char"}


# Options of transformers' Trainer: on the CPU, every loss noted, and nothing written or shown.
QUIET_TRAINING = {
    "logging_steps": 1,
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
    "use_cpu": True,
}


def small_llama(seed: int = 1, **sizes):
    """Return a Llama of transformers with large random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    small = dict(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(LlamaConfig(**small | sizes)).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def save_model(directory: Path, task: str, attention: str, **more) -> Path:
    """Write the experiment of a model of a task, with large random weights.

    Args:
        directory: that is made for it.
        task: its name.
        attention: kind of the decoder.
        more: keys of its configuration.

    Returns:
        The directory.
    """
    from mtla_espnet.task import TASKS
    from mtla_espnet.tasks.register import register, task_class

    register()
    kind = task_class(TASKS[task])
    small = {"attention_heads": 2, "linear_units": 32}
    encoder = {"output_size": 16, "num_blocks": 1, **small}
    if task == "sum":
        encoder["input_layer"] = "linear"
    config = vars(kind.get_parser().parse_args([])) | {
        "token_list": TARGET,
        "token_type": "char",
        "encoder_conf": encoder,
        "decoder": "decoder_only",
        "decoder_conf": {"attention": attention, "num_blocks": 2, **small},
        **{"sum": TEXT, "st": TRANSLATED}.get(task, SPEECH),
        **more,
    }
    config = yaml.safe_load(yaml.safe_dump(config))
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    (directory / "inference.yaml").write_text("beam_size: 4\nmaxlenratio: -8\nminlenratio: -4\n")
    torch.manual_seed(6)
    model = kind.build_model(argparse.Namespace(**config)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.save(model.state_dict(), directory / "valid.acc.ave.pth")
    return directory
