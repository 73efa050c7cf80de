import pytest
import torch
from espnet2.bin.st_inference import Speech2Text

from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.tasks.register import run_espnet

pytestmark = pytest.mark.espnet


def test_espnet_trains_and_decodes_a_translation_model(corpus, tmp_path):
    arguments = corpus.arguments(tmp_path, ["attention=mtla"], source=True)
    joint = ["--model_conf", "asr_weight=0.3", "--model_conf", "mtlalpha=1.0"]
    run_espnet("espnet2.bin.st_train", [*arguments, *joint])
    speech2text = Speech2Text(
        tmp_path / "config.yaml", tmp_path / "valid.acc.ave.pth", beam_size=2, maxlenratio=0.5
    )
    assert type(speech2text.st_model.decoder) is DecoderOnly
    known = set(speech2text.st_model.token_list)
    for wav in corpus.wavs():
        _, tokens, token_ids, hypothesis = speech2text(torch.tensor(wav, dtype=torch.float32))[0]
        assert set(tokens) <= known and len(tokens) == len(token_ids)
        assert float(hypothesis.score) < 0
