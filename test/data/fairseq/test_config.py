import numpy as np
import pytest
import torch

from mtla_espnet.data.fairseq.config import (
    read_fairseq_config,
    read_vocabulary,
    write_global_cmvn,
)
from mtla_espnet.files import UserError

# As Fairseq's prep_mustc_data.py writes it (policy lb), with keys that mean nothing here.
CONFIG = """
bpe_tokenizer:
  bpe: sentencepiece
  sentencepiece_model: /elsewhere/spm.model
input_channels: 1
input_feat_per_channel: 80
prepend_tgt_lang_tag: false
specaugment:
  freq_mask_F: 27
  freq_mask_N: 1
  time_mask_N: 2
  time_mask_T: 100
  time_mask_p: 1.0
  time_wrap_W: 0
  time_warp: 3
transforms:
  '*': [utterance_cmvn]
  _train: [utterance_cmvn, specaugment, delta_deltas]
vocab_filename: spm.txt
"""


def config_of(tmp_path, text=CONFIG):
    for name in ("spm.model", "spm.txt"):
        (tmp_path / name).touch()
    (tmp_path / "config.yaml").write_text(text)
    return read_fairseq_config(tmp_path / "config.yaml")


def test_what_applies_is_turned_into_espnets_options(tmp_path):
    config = config_of(tmp_path)
    assert config.options == {
        "specaug": "specaug",
        "specaug_conf": {
            "apply_time_warp": False,
            "apply_freq_mask": True,
            "freq_mask_width_range": [0, 27],
            "num_freq_mask": 1,
            "apply_time_mask": True,
            "time_mask_width_range": [0, 100],
            "num_time_mask": 2,
        },
        "normalize": "utterance_mvn",
        "normalize_conf": {"norm_means": True, "norm_vars": True},
    }
    assert config.vocabulary == tmp_path / "spm.txt"
    assert config.bpe_model == tmp_path / "spm.model"
    assert config.audio_root is None
    assert config.unknown == (
        "prepend_tgt_lang_tag",
        "transforms: delta_deltas",
        "specaugment.time_warp",
    )


def test_espnet_takes_these_options(tmp_path):
    from espnet2.asr.specaug.specaug import SpecAug
    from espnet2.layers.utterance_mvn import UtteranceMVN

    options = config_of(tmp_path).options
    SpecAug(**options["specaug_conf"])(torch.randn(2, 300, 80))
    UtteranceMVN(**options["normalize_conf"])


def test_global_statistics_are_those_of_fairseq(tmp_path):
    from espnet2.layers.global_mvn import GlobalMVN

    rng = np.random.default_rng(0)
    features = (rng.normal(size=(500, 80)) * rng.uniform(1, 3, 80) + 5).astype(np.float32)
    mean, std = features.mean(0), features.std(0)
    np.savez(tmp_path / "cmvn.npz", mean=mean, std=std)
    text = "transforms: {'*': [global_cmvn]}\nglobal_cmvn: {stats_npz_path: cmvn.npz}\n"
    config = config_of(tmp_path, text)
    assert config.options == {} and config.unknown == ()
    write_global_cmvn(config.global_cmvn, tmp_path / "out/stats.npz")
    batch = torch.from_numpy(features)[None].clone()
    found, _ = GlobalMVN(tmp_path / "out/stats.npz")(batch, torch.tensor([500]))
    np.testing.assert_allclose(found[0].numpy(), (features - mean) / std, atol=1e-4)
    np.savez(tmp_path / "bad.npz", mean=mean)
    with pytest.raises(UserError, match="bad.npz: has no arrays mean and std"):
        write_global_cmvn(tmp_path / "bad.npz", tmp_path / "x.npz")


def test_the_pieces_of_a_dictionary(tmp_path):
    path = tmp_path / "spm.txt"
    path.write_text("▁the 12\n, 3\n# 1\n<x> 1 #fairseq:overwrite\n")
    assert read_vocabulary(path) == ["▁the", ",", "#", "<x>"]
    for text in ("▁the\n", "a b\n", "a 1\na 2\n", "a 1\n\nb 2\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"spm.txt:\d: is not `<piece> <count>` with a new"):
            read_vocabulary(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("specaugment: 3\ntransforms: {'*': [specaugment]}\n", "specaugment must hold"),
        (
            "specaugment: {freq_mask_F: wide}\ntransforms: {'*': [specaugment]}\n",
            "specaugment.freq_mask_F must be a number from 0 on, not 'wide'",
        ),
        ("transforms: {'*': utterance_cmvn}\n", "transforms: must hold lists"),
        ("transforms: {'*': [global_cmvn]}\n", "global_cmvn.stats_npz_path must name a file"),
        (
            "transforms: {'*': [global_cmvn]}\nglobal_cmvn: {stats_npz_path: no.npz}\n",
            "no.npz: no such file",
        ),
        ("bpe_tokenizer: {bpe: sentencepiece}\n", "sentencepiece_model must name a file"),
    ],
)
def test_bad_values_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=f"config.yaml: .*{message}"):
        config_of(tmp_path, text)


def test_other_tokenizers_and_transforms_of_evaluation_are_named_or_left_out(tmp_path):
    config = config_of(tmp_path, "bpe_tokenizer: {bpe: gpt2}\ntransforms: {_eval: [global_cmvn]}\n")
    assert config.unknown == ("bpe_tokenizer: gpt2",)
    assert config.options == {} and config.vocabulary is None
