import pytest
import torch
from espnet2.bin.asr_inference import Speech2Text
from espnet2.main_funcs.pack_funcs import unpack

from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.tasks.register import run_espnet

pytestmark = pytest.mark.espnet

MODELS = {
    "mha": ["attention=mha"],
    "mqa": ["attention=mqa"],
    "gqa": ["attention=gqa"],
    "mla": ["attention=mla"],
    "mtla": ["attention=mtla", "attention_conf={down_rate: 3}"],
    "mtla_recompute": ["attention=mtla", "prefix=recompute"],
}
SEARCH = {"beam_size": 3, "ctc_weight": 0.3, "maxlenratio": 0.5}


@pytest.fixture(scope="module", params=MODELS)
def model(request, corpus, tmp_path_factory):
    """The directory of a model trained for a few updates."""
    directory = tmp_path_factory.mktemp(request.param)
    run_espnet("espnet2.bin.asr_train", corpus.arguments(directory, MODELS[request.param]))
    return directory


def files(directory):
    return {
        "asr_train_config": str(directory / "config.yaml"),
        "asr_model_file": str(directory / "valid.acc.ave.pth"),
    }


def best(results):
    """Tokens and score of each utterance's best hypothesis."""
    return [(result[0][1], float(result[0][3].score)) for result in results]


def assert_same(results, expected):
    assert [tokens for tokens, _ in results] == [tokens for tokens, _ in expected]
    torch.testing.assert_close(
        torch.tensor([score for _, score in results]),
        torch.tensor([score for _, score in expected]),
        atol=1e-4,
        rtol=1e-4,
    )


def test_a_batch_is_decoded_as_one_by_one_by_espnets_own_class(model, corpus):
    speech2text = Speech2Text(**files(model), batch_size=4, **SEARCH)
    assert type(speech2text.asr_model.decoder) is DecoderOnly
    speech = [torch.tensor(wav, dtype=torch.float32) for wav in corpus.wavs()]
    alone = best(speech2text(each) for each in speech)
    assert any(tokens for tokens, _ in alone)
    assert_same(best(speech2text.batch_decode(speech)), alone)


def test_a_packed_model_decodes_as_before(model, corpus, tmp_path):
    options = [word for key, value in files(model).items() for word in (f"--{key}", value)]
    run_espnet("espnet2.bin.pack", ["asr", *options, "--outpath", str(tmp_path / "model.zip")])
    unpacked = unpack(tmp_path / "model.zip", tmp_path / "unpacked")
    speech = torch.tensor(corpus.wavs()[0], dtype=torch.float32)
    expected = best([Speech2Text(**files(model), **SEARCH)(speech)])
    assert_same(best([Speech2Text(**unpacked, **SEARCH)(speech)]), expected)


def test_espnets_decoding_program_runs_in_batches(model, corpus, tmp_path):
    texts = []
    for batch_size in ("1", "3"):
        output = tmp_path / batch_size
        options = {**files(model), **SEARCH, "output_dir": output, "batch_size": batch_size}
        data = ["--data_path_and_name_and_type", f"{corpus.directory / 'wav.scp'},speech,sound"]
        data += ["--num_workers", "0"]
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        run_espnet("espnet2.bin.asr_inference", [*data, *words])
        texts.append((output / "1best_recog" / "token").read_text())
    assert texts[0] == texts[1]
    assert len(texts[0].splitlines()) == len(corpus.wavs())
