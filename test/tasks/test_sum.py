import pytest
import torch
from espnet2.bin.mt_inference import Text2Text

from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.tasks.register import run_espnet

pytestmark = pytest.mark.espnet


def test_espnet_trains_and_decodes_a_text_model(corpus, tmp_path):
    arguments = corpus.arguments(tmp_path, ["attention=mtla"], speech=False, source=True)
    run_espnet("espnet2.bin.mt_train", arguments)
    text2text = Text2Text(
        tmp_path / "config.yaml",
        tmp_path / "valid.acc.ave.pth",
        beam_size=2,
        ctc_weight=0.0,
        maxlenratio=0.5,
    )
    assert type(text2text.mt_model.decoder) is DecoderOnly
    known = set(text2text.mt_model.token_list)
    for source in ([3, 4, 5], [6, 3]):
        _, tokens, token_ids, hypothesis = text2text(torch.tensor(source))[0]
        assert set(tokens) <= known and len(tokens) == len(token_ids)
        assert float(hypothesis.score) < 0
