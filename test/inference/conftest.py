"""Small ESPnet models with random weights, and formatted data to decode with them."""

import argparse

import numpy as np
import pytest
import soundfile
import yaml

from mtla_espnet.data.kaldi.tables import write_table

RATE_HZ = 8000
LENGTHS = {"utt1": 5000, "utt2": 9000, "utt3": 3000, "utt4": 7000, "utt5": 5000}
TOKENS = ["<blank>", "<unk>", "<space>", *"abcdefghijklmnop", "<sos/eos>"]


class Model:
    """An experiment's directory inside a recipe's, with paths as a recipe writes them."""

    tokens = TOKENS

    def __init__(self, recipe, name, decoder, more=None, **decoder_conf):
        self.directory = recipe / "exp" / f"asr_{name}"
        self.config_file = self.directory / "config.yaml"
        self.file = self.directory / "valid.acc.ave.pth"
        stats_file = "exp/asr_stats/feats_stats.npz"
        config = self._save(recipe, stats_file, decoder, decoder_conf, more or {})
        config["normalize_conf"]["stats_file"] = stats_file
        self.config_file.write_text(yaml.safe_dump(config))

    def _save(self, recipe, stats_file, decoder, decoder_conf, more):
        import torch

        from mtla_espnet.tasks.register import register

        register()
        from espnet2.tasks.asr import ASRTask

        (recipe / stats_file).parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        mean = random.normal(-8, 1, 20)
        np.savez(recipe / stats_file, count=10, sum=10 * mean, sum_square=10 * (mean**2 + 1))
        small = {"output_size": 16, "attention_heads": 2, "linear_units": 32, "num_blocks": 1}
        config = vars(ASRTask.get_parser().parse_args([])) | {
            "token_list": TOKENS,
            "token_type": "char",
            "frontend_conf": {
                "fs": RATE_HZ, "n_fft": 256, "hop_length": 80, "n_mels": 20, "center": False
            },
            "normalize": "global_mvn",
            "normalize_conf": {"stats_file": str(recipe / stats_file)},
            "encoder": "conv1d_conformer",
            "encoder_conf": small,
            "decoder": decoder,
            "decoder_conf": {
                "attention_heads": 2, "linear_units": 32, "num_blocks": 2, **decoder_conf
            },
            **more,
        }  # fmt: skip
        torch.manual_seed(1)
        model = ASRTask.build_model(argparse.Namespace(**config)).eval()
        for parameter in model.parameters():
            # Larger weights than at the start of a training: hypotheses that differ.
            torch.nn.init.normal_(parameter, std=0.3)
        self.directory.mkdir(parents=True)
        torch.save(model.state_dict(), self.file)
        return yaml.safe_load(yaml.safe_dump(config))


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    """A recipe's directory with `dump/raw/test` of five utterances of noise."""
    directory = tmp_path_factory.mktemp("recipe")
    data = directory / "dump" / "raw" / "test"
    data.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, length in LENGTHS.items():
        tone = np.sin(np.arange(length) * random.uniform(0.05, 1.5))
        samples = random.uniform(0.2, 0.5) * tone + random.normal(0, 0.05, length)
        soundfile.write(data / f"{name}.flac", samples.clip(-1, 0.999), RATE_HZ)
    write_table(data / "wav.scp", {name: data / f"{name}.flac" for name in LENGTHS})
    write_table(data / "utt2num_samples", LENGTHS)
    return directory


@pytest.fixture(scope="session")
def model(recipe):
    """A decoder-only model with temporal latent attention."""
    return Model(recipe, "mtla", "decoder_only", attention="mtla")


@pytest.fixture(scope="session")
def transformer(recipe):
    """The same encoder with ESPnet's decoder."""
    return Model(recipe, "transformer", "transformer")


@pytest.fixture(scope="session")
def make_model():
    """Make a model of a configuration in a recipe's directory, see `Model`."""
    return Model


@pytest.fixture
def on_whisper(tmp_path):
    """A model on a frozen Whisper in a folder beside, and that folder."""
    from tiny_whisper import write_whisper

    recipe, name = tmp_path / "recipe", "downloads/whisper"
    folder = recipe / name
    write_whisper(folder)
    more = {"frontend": "transformers", "frontend_conf": {"model": str(folder)}, "normalize": None}
    model = Model(recipe, "whisper", "decoder_only", more, attention="mtla")
    # As a recipe says it, relative to its directory.
    config = yaml.safe_load(model.config_file.read_text())
    config["frontend_conf"]["model"] = name
    model.config_file.write_text(yaml.safe_dump(config))
    return model, folder
