"""Checkpoints of S3PRL's families with tiny configurations."""

import dataclasses

import torch
from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig
from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model
from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

FAMILIES = ("hubert", "wav2vec2", "wavlm")
MODES = ("default", "layer_norm")  # of the convolutions: over time, or frame by frame


def write_checkpoint(path, family, mode, layers=2, width=16, heads=2):
    """Write a checkpoint that S3PRL's `<family>_local` loads."""
    torch.manual_seed(0)
    large = mode == "layer_norm"
    config = {
        "encoder_layers": layers,
        "encoder_embed_dim": width,
        "encoder_ffn_embed_dim": 24,
        "encoder_attention_heads": heads,
        "conv_feature_layers": "[(8,10,5)] + [(8,3,2)] * 4 + [(8,2,2)] * 2",
        "conv_pos": 16,
        "conv_pos_groups": 2,
        "extractor_mode": mode,
        "layer_norm_first": large,
    }
    if family == "wavlm":
        config["normalize"] = large
        state = {"cfg": config, "model": WavLM(WavLMConfig(config)).state_dict()}
    elif family == "hubert":
        config |= {"final_dim": 8, "label_rate": 50}
        task = HubertPretrainingConfig(normalize=large)
        model = HubertModel(HubertConfig(**config), task, [["a", "b"]])
        state = {
            "task_cfg": dataclasses.asdict(task),
            "model_cfg": config,
            "model_weight": model.state_dict(),
            "dictionaries_symbols": [["a", "b"]],
        }
    else:
        config |= {"final_dim": 8, "quantize_targets": False}
        model = Wav2Vec2Model(Wav2Vec2Config(**config))
        weights = model.state_dict()
        state = {"task_cfg": {"normalize": large}, "model_cfg": config, "model_weight": weights}
    torch.save(state, path)
    return path
