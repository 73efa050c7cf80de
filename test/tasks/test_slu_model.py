import json

import pytest
import torch
import yaml
from espnet2.slu.espnet_model import ESPnetSLUModel
from espnet2.tasks.slu import SLUTask
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.inference.speech2understand import Speech2Understand
from mtla_espnet.tasks.register import run_espnet
from mtla_espnet.tasks.slu_model import DecoderOnlySLUModel, IntentWeightedLoss
from strategies import seeds

pytestmark = pytest.mark.espnet

PADDING, VOCABULARY = -1, 7


def by_hand(logits, targets, weight, smoothing, normalize_length):
    """Sum over targets of the divergence from the smoothed distribution, weight by weight."""
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for row, target in zip(logits.double(), targets, strict=True):
        for place, (scores, label) in enumerate(zip(row, target.tolist(), strict=True)):
            if label == PADDING:
                continue
            count += 1
            wanted = torch.full((VOCABULARY,), smoothing / (VOCABULARY - 1), dtype=torch.float64)
            wanted[label] = 1.0 - smoothing
            log_probability = scores - scores.exp().sum().log()
            each = sum(
                p * (p.log() - q) for p, q in zip(wanted, log_probability, strict=True) if p > 0
            )
            total += (weight if place == 0 else 1.0) * each
    return total / (count if normalize_length else len(targets))


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.floats(0.1, 9.0),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
    seeds,
)
def test_the_first_target_weighs_more(lengths, weight, smoothing, normalize_length, seed):
    torch.manual_seed(seed)
    logits = torch.randn(len(lengths), max(lengths), VOCABULARY)
    targets = torch.full(logits.shape[:2], PADDING)
    for row, length in enumerate(lengths):
        targets[row, :length] = torch.randint(VOCABULARY, (length,))
    loss = IntentWeightedLoss(
        weight,
        size=VOCABULARY,
        padding_idx=PADDING,
        smoothing=smoothing,
        normalize_length=normalize_length,
    )
    expected = by_hand(logits, targets, weight, smoothing, normalize_length)
    assert loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.fixture(scope="module")
def model_of(corpus, tmp_path_factory):
    """Build a model with options; all have the same parameters."""

    def build(**options):
        arguments = corpus.arguments(tmp_path_factory.mktemp("slu"), ["attention=mtla"])
        for name, value in ({"ctc_weight": 0.3} | options).items():
            arguments += ["--model_conf", f"{name}={value}"]
        parser = SLUTask.get_parser()
        torch.manual_seed(0)
        arguments += ["--model", "decoder_only_slu"]
        build.arguments = parser.parse_args(arguments)
        return SLUTask.build_model(build.arguments).eval()

    return build


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return {
        "speech": torch.randn(3, 6400),
        "speech_lengths": torch.tensor([6400, 5600, 4800]),
        # the last utterance has an intent and no words
        "text": torch.tensor([[3, 4, 5], [5, 6, -1], [4, -1, -1]]),
        "text_lengths": torch.tensor([3, 2, 1]),
    }


def test_by_default_it_is_espnets_model(model_of, batch):
    model = model_of()
    loss, stats, _ = model(**batch)
    model.__class__ = ESPnetSLUModel
    plain, plain_stats, _ = model(**batch)
    assert loss.item() == plain.item()
    assert stats["loss_ctc"] == plain_stats["loss_ctc"]


def test_ctc_sees_the_words_alone(model_of, batch):
    model = model_of(ctc_skip_tokens=1)
    _, stats, _ = model(**batch)
    encoded, lengths = model.encode(batch["speech"], batch["speech_lengths"])
    words = torch.tensor([4, 5, 6])
    log_probability = model.ctc.ctc_lo(encoded).log_softmax(-1).transpose(0, 1)
    losses = torch.nn.functional.ctc_loss(
        log_probability, words, lengths, torch.tensor([2, 1, 0]), reduction="none"
    )
    assert stats["loss_ctc"].item() == pytest.approx(losses.mean().item(), rel=1e-4)
    blanks = log_probability[: lengths[2], 2, 0].sum()
    assert losses[2].item() == pytest.approx(-blanks.item(), rel=1e-4)


def test_the_whole_loss(model_of, batch):
    plain, weighed = model_of(ctc_skip_tokens=1), model_of(ctc_skip_tokens=1, intent_weight=5.0)
    _, before, _ = plain(**batch)
    loss, stats, _ = weighed(**batch)
    encoded, lengths = plain.encode(batch["speech"], batch["speech_lengths"])
    sos = torch.full((3, 1), plain.sos)
    logits, _ = plain.decoder(encoded, lengths, sos, torch.ones(3, dtype=torch.int64))
    intent = by_hand_first(logits[:, 0], batch["text"][:, 0])
    assert stats["loss_att"].item() == pytest.approx(
        before["loss_att"].item() + 4 * intent, rel=1e-4
    )
    assert loss.item() == pytest.approx(
        0.3 * stats["loss_ctc"].item() + 0.7 * stats["loss_att"].item(), rel=1e-5
    )


def by_hand_first(logits, targets):
    """Cross entropy a sentence (no smoothing)."""
    scores = logits.double().log_softmax(-1)
    return -sum(row[label].item() for row, label in zip(scores, targets, strict=True)) / len(logits)


def test_joint_decoding_scores_the_words_alone_by_ctc(model_of, tmp_path):
    model, arguments = model_of(ctc_skip_tokens=1), model_of.arguments
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.decoder.output_layer.bias.data[-1] += 4.0  # hypotheses that end
    torch.save(model.state_dict(), tmp_path / "model.pth")
    config = yaml.safe_load(yaml.safe_dump(vars(arguments)))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    understand = Speech2Understand(
        tmp_path / "config.yaml", tmp_path / "model.pth",
        beam_size=4, nbest=4, ctc_weight=0.3, maxlenratio=-12,
    )  # fmt: skip
    speech = torch.randn(1, 6400)
    encoded, lengths = model.encode(speech, torch.tensor([6400]))
    log_probability = model.ctc.ctc_lo(encoded).log_softmax(-1).transpose(0, 1)
    found = understand(speech[0])
    assert len(found) == 4
    ended = 0
    for _, _, token_int, hypothesis in found:
        words = torch.tensor(token_int[1:], dtype=torch.int64)
        cost = torch.nn.functional.ctc_loss(
            log_probability, words[None], lengths, torch.tensor([len(words)]), reduction="sum"
        )
        # at the length limit the end is not scored: the words begin the labelling
        assert float(hypothesis.scores["ctc"]) >= -cost.item() - 1e-3
        if len(token_int) < 12:
            ended += 1
            assert float(hypothesis.scores["ctc"]) == pytest.approx(-cost.item(), abs=1e-3)
    assert ended


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intent_weight": 0.0}, "intent_weight must be a number above 0, not 0.0"),
        ({"intent_weight": "nan"}, "intent_weight must be a number above 0, not nan"),
        ({"ctc_skip_tokens": -1}, "ctc_skip_tokens must be a whole number from 0 on, not -1"),
        ({"ctc_skip_tokens": 1.5}, "ctc_skip_tokens must be a whole number from 0 on, not 1.5"),
    ],
)
def test_values_that_mean_nothing(model_of, options, message):
    with pytest.raises(ValueError, match=message):
        model_of(**options)


def test_espnet_trains_it_and_writes_its_options(corpus, tmp_path):
    arguments = corpus.arguments(tmp_path, ["attention=mtla"])
    arguments += ["--model", "decoder_only_slu", "--model_conf", "intent_weight=5.0"]
    arguments += ["--model_conf", "ctc_skip_tokens=1"]
    run_espnet("espnet2.bin.slu_train", arguments)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["model"] == "decoder_only_slu"
    assert config["model_conf"]["intent_weight"] == 5.0
    assert config["model_conf"]["ctc_skip_tokens"] == 1
    model, _ = SLUTask.build_model_from_file(
        tmp_path / "config.yaml", tmp_path / "valid.acc.ave.pth"
    )
    assert isinstance(model, DecoderOnlySLUModel)
    assert model.ctc_skip_tokens == 1
    assert json.loads((tmp_path / "training.json").read_text())["epochs"] == 2
