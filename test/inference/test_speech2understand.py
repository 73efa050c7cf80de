"""Understanding in two passes: speech, and a transcript through a BERT of a few kilobytes."""

import argparse

import numpy as np
import pytest
import soundfile
import torch
import yaml

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.inference.decode import decode
from mtla_espnet.inference.speech2understand import Speech2Understand
from mtla_espnet.task import TASKS

pytestmark = pytest.mark.espnet

RATE_HZ = 8000
TOKENS = ["<blank>", "<unk>", "alarm_set", "light_on", "lamp", "on", "at", "six", "<sos/eos>"]
TRANSCRIPT_TOKENS = ["<blank>", "<unk>", "lamp", "on", "at", "six", "<sos/eos>"]
TRANSCRIPTS = {"utt1": "lamp on", "utt2": "at six", "utt3": "lamp at six on on"}
OPTIONS = {"beam_size": 3, "ctc_weight": 0.0, "maxlenratio": -6}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A model of random weights, and the set that it is asked about."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from mtla_espnet.tasks.register import register, task_class

    register()
    directory = tmp_path_factory.mktemp("two_passes")
    bert = directory / "bert"
    bert.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *TRANSCRIPT_TOKENS[2:-1]]
    (bert / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(str(bert / "vocab.txt")).save_pretrained(bert)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(
        BertConfig(vocab_size=len(words), intermediate_size=16, initializer_range=0.5, **size)
    ).save_pretrained(bert)

    small = {"attention_heads": 2, "linear_units": 16, "num_blocks": 1}
    task = task_class(TASKS["slu"])
    config = vars(task.get_parser().parse_args([])) | {
        "token_list": TOKENS,
        "transcript_token_list": TRANSCRIPT_TOKENS,
        "two_pass": True,
        "token_type": "word",
        "frontend_conf": {"fs": RATE_HZ, "n_fft": 256, "hop_length": 80, "center": False},
        "normalize": "utterance_mvn",
        "encoder": "conv1d_conformer",
        "encoder_conf": {"output_size": 16, **small},
        "postdecoder": "hugging_face_transformers",
        "postdecoder_conf": {"model_name_or_path": str(bert), "output_size": 16},
        "decoder": "decoder_only",
        "decoder_conf": {"attention": "mtla", **small},
    }
    config = yaml.safe_load(yaml.safe_dump(config))
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    model = task.build_model(argparse.Namespace(**config)).eval()
    for name, parameter in model.named_parameters():
        if not name.startswith("postdecoder.model"):
            torch.nn.init.normal_(parameter, std=0.5)
    torch.save(model.state_dict(), directory / "valid.acc.ave.pth")

    random = np.random.default_rng(0)
    for number, name in enumerate(TRANSCRIPTS):
        samples = random.uniform(-0.5, 0.5, 3000 + 1000 * number)
        soundfile.write(directory / f"{name}.flac", samples, RATE_HZ)
    write_table(directory / "wav.scp", {key: directory / f"{key}.flac" for key in TRANSCRIPTS})
    lengths = {key: 3000 + 1000 * number for number, key in enumerate(TRANSCRIPTS)}
    write_table(directory / "utt2num_samples", lengths)
    write_table(directory / "transcript", TRANSCRIPTS)
    return directory


def waves(directory):
    return {
        key: soundfile.read(directory / f"{key}.flac", dtype="float32")[0] for key in TRANSCRIPTS
    }


def test_the_hypotheses_are_espnets_alone_and_in_a_batch(directory):
    from espnet2.bin.slu_inference import Speech2Understand as Peer

    ours = Speech2Understand.from_pretrained(directory, **OPTIONS)
    assert ours.reads_transcripts
    peer = Peer(directory / "config.yaml", directory / "valid.acc.ave.pth", **OPTIONS)
    speech = waves(directory)
    pairs = [(speech[key], TRANSCRIPTS[key]) for key in TRANSCRIPTS]
    for (wave, words), together in zip(pairs, ours(pairs), strict=True):
        ids = [TRANSCRIPT_TOKENS.index(word) for word in words.split()]
        expected = peer(wave, torch.tensor(ids))[0]
        for _, _, token_int, hypothesis in (ours(wave, words)[0], together[0]):
            assert token_int == [token for token in expected[2] if token != len(TOKENS) - 1]
            assert hypothesis.score == pytest.approx(float(expected[3].score), abs=1e-3)
    other = ours(speech["utt1"], "six six six")[0]
    assert other[3].score != pytest.approx(ours(speech["utt1"], "lamp on")[0][3].score, abs=1e-3)


def run(directory, output, data):
    return decode(
        task="slu",
        train_config=directory / "config.yaml",
        model_file=directory / "valid.acc.ave.pth",
        token_list=None,
        inference_config=OPTIONS,
        data_dir=data,
        keys=None,
        output_dir=output,
        batch_size=2,
        max_memory_bytes=None,
        ngpu=0,
        progress=False,
    )


def test_a_set_is_decoded_with_its_transcripts(directory, tmp_path):
    run(directory, tmp_path, directory)
    ours = Speech2Understand.from_pretrained(directory, **OPTIONS)
    texts = read_table(tmp_path / "1best_recog/text")
    for key, wave in waves(directory).items():
        assert texts[key] == ours(wave, TRANSCRIPTS[key])[0][0]


def test_a_transcript_that_is_missing_is_said(directory, tmp_path):
    ours = Speech2Understand.from_pretrained(directory, **OPTIONS)
    with pytest.raises(UserError, match="utterance 0 has no transcript, which the model reads"):
        ours(waves(directory)["utt1"])
    for name in ("wav.scp", "utt2num_samples"):
        write_table(tmp_path / name, read_table(directory / name))
    write_table(tmp_path / "transcript", {"utt1": "lamp on"})
    with pytest.raises(UserError, match="transcript: no line for 'utt2'"):
        run(directory, tmp_path / "out", tmp_path)
