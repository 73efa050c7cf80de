import pytest
import torch
from espnet2.bin.slu_inference import Speech2Understand

from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.tasks.register import run_espnet

pytestmark = pytest.mark.espnet


def test_espnet_trains_and_decodes_an_understanding_model(corpus, tmp_path):
    run_espnet("espnet2.bin.slu_train", corpus.arguments(tmp_path, ["attention=mtla"]))
    speech2understand = Speech2Understand(
        tmp_path / "config.yaml", tmp_path / "valid.acc.ave.pth", beam_size=2, maxlenratio=0.5
    )
    assert type(speech2understand.asr_model.decoder) is DecoderOnly
    known = set(speech2understand.asr_model.token_list)
    for wav in corpus.wavs():
        speech = torch.tensor(wav, dtype=torch.float32)
        _, tokens, token_ids, hypothesis = speech2understand(speech)[0]
        assert set(tokens) <= known and len(tokens) == len(token_ids)
        assert float(hypothesis.score) < 0
