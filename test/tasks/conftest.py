"""A tiny corpus, and ESPnet's arguments to train on it."""

import numpy as np
import pytest
import soundfile

RATE_HZ = 8000
WORDS = {"utt1": "on off", "utt2": "up", "utt3": "off down up", "utt4": "down on"}
LETTERS = sorted(set("".join(WORDS.values())) - {" "})


class Corpus:
    """Files of a corpus of four utterances of noise, in `directory`."""

    def __init__(self, directory):
        self.directory = directory
        random = np.random.default_rng(0)
        lines = {name: [] for name in ("wav.scp", "speech_shape", "text", "src_text")}
        for number, (utterance, words) in enumerate(WORDS.items(), 1):
            samples = random.uniform(-0.5, 0.5, 2400 + 800 * number)
            wav = directory / f"{utterance}.wav"
            soundfile.write(wav, samples, RATE_HZ)
            lines["wav.scp"].append(f"{utterance} {wav}")
            lines["speech_shape"].append(f"{utterance} {len(samples)}")
            lines["text"].append(f"{utterance} {words}")
            lines["src_text"].append(f"{utterance} {words[::-1]}")
        for name, content in lines.items():
            self.write(name, content)
        self.write("tokens.txt", ["<blank>", "<unk>", "<space>", *LETTERS, "<sos/eos>"])

    def write(self, name, lines):
        (self.directory / name).write_text("".join(f"{line}\n" for line in lines))

    def wavs(self):
        return [soundfile.read(self.directory / f"{name}.wav")[0] for name in WORDS]

    def arguments(self, output, decoder_conf=(), speech=True, source=False):
        """Arguments of a training of one small model for two epochs of two updates.

        Args:
            output: the experiment directory.
            decoder_conf: `key=value` strings over those of the small model.
            speech: whether there is speech (else the input is `src_text`).
            source: whether there is `src_text`.
        """
        data = {"text": "text,text"}
        if source:
            data["src_text"] = "src_text,text"
        if speech:
            data["wav.scp"] = "speech,sound"
        arguments = []
        for name, kind in data.items():
            arguments += ["--train_data_path_and_name_and_type", f"{self.directory / name},{kind}"]
            arguments += ["--valid_data_path_and_name_and_type", f"{self.directory / name},{kind}"]
        for phase in ("train", "valid"):
            arguments += [f"--{phase}_shape_file", str(self.directory / "speech_shape")]
        arguments += ["--token_list", str(self.directory / "tokens.txt"), "--token_type", "char"]
        if source:
            arguments += ["--src_token_list", str(self.directory / "tokens.txt")]
            arguments += ["--src_token_type", "char"]
        if speech:
            arguments += ["--frontend_conf", f"fs={RATE_HZ}", "--frontend_conf", "n_fft=256"]
            arguments += ["--frontend_conf", "hop_length=80", "--frontend_conf", "n_mels=20"]
            arguments += ["--frontend_conf", "center=false", "--encoder", "conv1d_conformer"]
        else:
            arguments += ["--frontend", "embed", "--frontend_conf", "embed_dim=20"]
            arguments += ["--encoder", "transformer", "--encoder_conf", "input_layer=linear"]
        arguments += ["--encoder_conf", "output_size=16", "--encoder_conf", "attention_heads=2"]
        arguments += ["--encoder_conf", "linear_units=32", "--encoder_conf", "num_blocks=1"]
        arguments += ["--decoder", "decoder_only"]
        for value in ("attention_heads=2", "linear_units=32", "num_blocks=2", *decoder_conf):
            arguments += ["--decoder_conf", value]
        arguments += ["--optim", "adam", "--optim_conf", "lr=0.01"]
        arguments += ["--batch_type", "sorted", "--batch_size", "2", "--max_epoch", "2"]
        arguments += ["--keep_nbest_models", "2", "--num_workers", "0", "--num_att_plot", "0"]
        arguments += ["--use_tensorboard", "false", "--use_matplotlib", "false"]
        return [*arguments, "--resume", "true", "--output_dir", str(output)]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return Corpus(tmp_path_factory.mktemp("corpus"))
