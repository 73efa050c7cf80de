import argparse
import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mtla_espnet.files import UserError
from mtla_espnet.task import TASKS
from mtla_espnet.tasks import graphs
from mtla_espnet.tasks.graphs import GraphedModel, check_supported, padded_size
from mtla_espnet.tasks.register import register, run_espnet, task_class
from strategies import seeds

pytestmark = pytest.mark.espnet

TOKENS = ["<blank>", "<unk>", *"abcdefgh", "<sos/eos>"]
SPEECH = {
    "frontend": "fbank",
    "frontend_conf": {"fs": 8000, "n_mels": 8},
    "normalize": "utterance_mvn",
    "encoder": "conv1d_transformer",
}
TEXT = {
    "frontend": "embed",
    "frontend_conf": {"embed_dim": 8, "positional_dropout_rate": 0.0},
    "encoder": "transformer",
}
KINDS = {
    "asr": {"model_conf": {"ctc_weight": 0.3, "lsm_weight": 0.1}},
    "st": {"model_conf": {"asr_weight": 0.3, "mtlalpha": 1.0, "lsm_weight": 0.1}},
    "slu": {
        "model": "decoder_only_slu",
        "model_conf": {"ctc_weight": 0.3, "ctc_skip_tokens": 2, "intent_weight": 5.0},
    },
    "sum": {"model_conf": {"length_normalized_loss": True}},
}
SOURCES = {"asr": "speech", "st": "speech", "slu": "speech", "sum": "src_text"}


def build(kind, dropout=0.0, attention="mtla", size=16, **more):
    """A small model of a task, without dropout unless said."""
    register()
    task = task_class(TASKS[kind])
    small = {"attention_heads": 2, "linear_units": 2 * size, "num_blocks": 1}
    rates = ("dropout_rate", "positional_dropout_rate", "attention_dropout_rate")
    encoder = {"output_size": size, "use_sdpa": True, **small, **dict.fromkeys(rates, dropout)}
    if kind == "sum":
        encoder["input_layer"] = "linear"
    config = vars(task.get_parser().parse_args([])) | {
        "token_list": TOKENS,
        "token_type": "char",
        "src_token_list": TOKENS,
        "src_token_type": "char",
        "encoder_conf": encoder,
        "decoder": "decoder_only",
        "decoder_conf": {"attention": attention, "dropout_rate": dropout, **small},
        "ctc_conf": {"dropout_rate": 0.0},
        **(TEXT if kind == "sum" else SPEECH),
        **KINDS[kind],
        **more,
    }
    torch.manual_seed(6)
    return task.build_model(argparse.Namespace(**config)).train()


def batch_of(kind, lengths, seed, device="cpu"):
    """A batch, padded to its longest, for speech of so many frames and texts of so many tokens."""
    draw = torch.Generator().manual_seed(seed)
    frames, tokens = zip(*lengths, strict=True)
    speech = [torch.randn(200 + 80 * (each - 1), generator=draw) for each in frames]
    texts = [torch.randint(2, len(TOKENS) - 1, (each,), generator=draw) for each in tokens]
    batch = {"text": texts}
    if kind == "sum":
        counts = [min(each, 40) for each in frames]
        draws = [torch.randint(2, len(TOKENS) - 1, (each,), generator=draw) for each in counts]
        batch["src_text"] = draws
    else:
        batch["speech"] = speech
    if kind == "st":
        batch["src_text"] = [text.flip(0)[: max(1, len(text) - 1)] for text in texts]
    padded = {}
    for name, values in batch.items():
        fill = 0.0 if name == "speech" else -1
        rows = torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill)
        padded[name] = rows.to(device)
        padded[f"{name}_lengths"] = torch.tensor([len(each) for each in values], device=device)
    return padded


def copied(batch):
    return {name: value.clone() for name, value in batch.items()}


def learned(model, batch, scale=1.0):
    """Loss, statistics, weight and gradients of a batch."""
    loss, statistics, weight = model(**copied(batch))
    (loss * scale).sum().backward()
    gradients = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            gradients[name.removeprefix("model.")] = parameter.grad.clone()
            parameter.grad = None
    return (
        loss.detach(),
        {k: v.clone() for k, v in statistics.items() if v is not None},
        weight,
        gradients,
    )


def assert_same(found, expected, **tolerance):
    loss, statistics, weight, gradients = found
    torch.testing.assert_close(loss, expected[0], **tolerance)
    torch.testing.assert_close(statistics, expected[1], **tolerance)
    assert weight.item() == expected[2].item()
    torch.testing.assert_close(gradients, expected[3], **tolerance)


SHORT, LONGER, OTHER = [(40, 3)] * 3, [(44, 3), (44, 3), (43, 2)], [(70, 5)] * 2
CLOSE = {"atol": 2e-5, "rtol": 1e-4}
utterances = st.lists(st.tuples(st.integers(20, 70), st.integers(1, 5)), min_size=1, max_size=20)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(lengths=utterances, seed=seeds)
def test_a_batch_that_is_filled_up_gives_the_same_loss_and_gradients(kind, lengths, seed):
    model = build(kind)
    lengths += [(33, 1)] * (17 - len(lengths) if seed % 2 else 0)  # 17 rows become 18
    batch = batch_of(kind, lengths, seed)
    assert_same(learned(GraphedModel(model, 0), batch), learned(model, batch), **CLOSE)


class NothingWaits(TorchDispatchMode):
    """Refuses what asks a GPU for a number."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "is_nonzero", "nonzero", "equal"), name
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["mha", "mtla"])
def test_a_model_behind_its_front_end_waits_for_no_number(kind, attention):
    def capture(work):
        def replay():
            with NothingWaits():
                work()

        return replay

    graphed = GraphedModel(build(kind, dropout=0.1, attention=attention), 1, capture)
    for _ in range(2):  # the first makes tables that stay
        loss, _, _ = graphed(**batch_of(kind, SHORT, 0))
        loss.sum().backward()
    assert len(graphed.shapes) == 1
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NothingWaits():
        torch.ones(1).item()


def stand_in(work):
    """Replays work by doing it again."""
    return work


@pytest.mark.parametrize("kind", KINDS)
def test_updates_by_graphs_are_those_of_the_model(kind):
    model, plain = build(kind), build(kind)
    graphed = GraphedModel(model, 2, stand_in)
    kept = []
    for seed, lengths in enumerate((LONGER, LONGER, SHORT, OTHER, OTHER, LONGER, SHORT)):
        batch = batch_of(kind, lengths, seed)
        assert_same(learned(graphed, batch, 3.0), learned(plain, batch, 3.0), **CLOSE)
        kept.append(len(graphed.shapes))
    assert kept == [0, 1, 1, 1, 2, 2, 2]


def test_the_second_batch_of_a_shape_makes_its_graph_as_long_as_there_is_room():
    graphed = GraphedModel(build("asr"), 1, stand_in)
    for lengths in (SHORT, OTHER, OTHER, SHORT, SHORT):
        learned(graphed, batch_of("asr", lengths, 0))
    assert graphed.shapes == [{"speech": (2, 72), "text": (2, 5)}]


def test_a_graph_takes_what_fills_it():
    shape = {"speech": (10, 100), "text": (10, 20)}
    fills = graphs._fills
    assert fills({"speech": (10, 90), "text": (10, 17)}, shape)
    assert fills({"speech": (9, 100), "text": (9, 20)}, shape)
    assert not fills({"speech": (10, 101), "text": (10, 20)}, shape)
    assert not fills({"speech": (11, 90), "text": (11, 20)}, shape)
    assert not fills({"speech": (8, 90), "text": (8, 20)}, shape)
    assert not fills({"speech": (10, 100), "text": (10, 10)}, shape)
    assert not fills({"speech": (10, 100)}, shape)


@given(st.integers(1, 10**6))
def test_padded_sizes_are_few_and_near(size):
    padded = padded_size(size)
    assert size <= padded <= size + size / 16 and padded_size(padded) == padded
    assert len({padded_size(each) for each in range(513, 1025)}) == 16


def test_gradients_add_up_over_batches_with_graphs_and_without():
    model, plain = build("asr"), build("asr")
    graphed = GraphedModel(model, 1, stand_in)
    data = [batch_of("asr", lengths, 1) for lengths in (SHORT, SHORT, OTHER, SHORT, SHORT)]
    for batches in (data[:1], data[1:3], data[2:4], data[1:]):
        for each, own in ((graphed, model), (plain, plain)):
            own.zero_grad()
            for batch in batches:
                each(**copied(batch))[0].sum().backward()
        for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, **CLOSE, msg=name)


def test_what_learns_nothing_has_no_gradient():
    model = build("asr", model_conf={"ctc_weight": 1.0, "lsm_weight": 0.1})
    model.unused = torch.nn.Linear(2, 2)
    graphed = GraphedModel(model, 1, stand_in)
    for _ in range(3):
        graphed(**batch_of("asr", SHORT, 0))[0].sum().backward()
    assert len(graphed.shapes) == 1
    assert model.unused.weight.grad is None and model.ctc.ctc_lo.weight.grad is not None


def test_evaluation_is_the_models_own():
    model = build("asr")
    graphed = GraphedModel(model, 1, stand_in).eval()
    batch = batch_of("asr", SHORT, 0)
    loss, statistics, _ = graphed(**copied(batch))
    expected, expected_statistics, _ = model(**copied(batch))
    assert torch.equal(loss, expected) and statistics.keys() == expected_statistics.keys()


def test_the_front_end_is_back_when_a_model_fails():
    model = build("asr")
    parts = model.frontend, model.normalize
    model.ctc.forward = None
    with pytest.raises(TypeError):
        GraphedModel(model, 1, stand_in)(**batch_of("asr", SHORT, 0))
    assert (model.frontend, model.normalize) == parts
    assert not model.encoder._forward_hooks and not model.encoder._forward_pre_hooks


@pytest.fixture
def on_cpu(monkeypatch):
    """Trainings on the CPU may have graphs, which replay by computing again."""
    made = []

    def graphed(model, most):
        made.append(GraphedModel(model, most, stand_in))
        return made[-1]

    monkeypatch.setattr("mtla_espnet.tasks.trainer.GraphedModel", graphed)
    monkeypatch.setattr("mtla_espnet.tasks.trainer.check_supported", lambda *place: None)
    return made


def test_espnets_training_is_the_same(corpus, tmp_path, on_cpu):
    more = ("--encoder", "conv1d_transformer", "--accum_grad", "2", "--max_epoch", "3")
    more += tuple(
        word
        for rate in ("dropout_rate", "positional_dropout_rate")
        for word in ("--encoder_conf", f"{rate}=0")
    )
    more += ("--decoder_conf", "dropout_rate=0")
    states = []
    for name, option in (("graphed", "8"), ("plain", "0")):
        arguments = [*corpus.arguments(tmp_path / name), *more, "--train_graphs", option]
        run_espnet("espnet2.bin.asr_train", arguments)
        states.append(torch.load(tmp_path / name / "3epoch.pth", weights_only=True))
    (graphed,) = on_cpu  # of all epochs
    assert len(graphed.shapes) == 2
    torch.testing.assert_close(*states, atol=1e-3, rtol=1e-3)


def refused(*arguments):
    with pytest.raises(UserError) as refusal:
        check_supported(*arguments)
    return str(refusal.value)


def test_trainings_that_have_no_graphs_are_refused(corpus, tmp_path):
    model = build("asr")
    check_supported(model, 1, False)
    one = "--train_graphs: graphs are for one GPU: train with --ngpu 1 or without"
    assert refused(model, 0, False) == refused(model, 1, True) == refused(model, 2, False) == one
    assert refused(torch.nn.Linear(1, 1), 1, False) == (
        "--train_graphs: Linear has none: train without"
    )
    model.frontend = torch.nn.Linear(1, 1)
    assert refused(model, 1, False) == (
        "--train_graphs: the front end learns too: freeze it or train without"
    )
    with pytest.raises(UserError, match="graphs are for one GPU"):
        arguments = corpus.arguments(tmp_path / "refused")
        run_espnet("espnet2.bin.asr_train", [*arguments, "--train_graphs", "8"])


# -- on a GPU ----------------------------------------------------------------------
GPU = {"size": 64}


def half():
    return torch.autocast("cuda", dtype=torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["mha", "mtla"])
@pytest.mark.parametrize("precision", [contextlib.nullcontext, half])
def test_graphs_give_the_loss_and_gradients_of_the_model(kind, attention, precision):
    model = build(kind, attention=attention, **GPU).cuda()
    graphed = GraphedModel(model, 3)
    close = CLOSE if precision is contextlib.nullcontext else {"atol": 2e-2, "rtol": 5e-2}
    long, wide = [(300, 30), (280, 25)], [(90, 8)] * 17
    for seed, lengths in enumerate((long, long, wide, wide, long, wide, wide[1:], OTHER)):
        batch = batch_of(kind, lengths, seed, "cuda")
        with precision():
            found = learned(graphed, batch, 2.0)
            expected = learned(GraphedModel(model, 0), batch, 2.0)
        assert_same(found, expected, **close)
    assert len(graphed.shapes) == 2


@pytest.mark.gpu
def test_dropout_differs_between_replays():
    model = build("asr", dropout=0.2, **GPU).cuda()
    graphed = GraphedModel(model, 1)
    batch = batch_of("asr", [(300, 30)] * 4, 0, "cuda")
    losses = [learned(graphed, batch)[0].item() for _ in range(6)]
    assert len(graphed.shapes) == 1 and len(set(losses[2:])) == 4


@pytest.mark.gpu
def test_updates_by_graphs_learn():
    model = build("asr", **GPU).cuda()
    graphed = GraphedModel(model, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    scaler = torch.amp.GradScaler()
    batch = batch_of("asr", [(300, 30)] * 4, 0, "cuda")
    losses = []
    for _ in range(20):
        with half():
            loss, _, _ = graphed(**copied(batch))
        losses.append(loss.item())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.gpu
@pytest.mark.parametrize("encoder", ["conv1d_conformer", "conv1d_transformer", "conformer"])
def test_espnets_training_on_a_gpu(corpus, tmp_path, monkeypatch, encoder):
    made = []

    def graphed(model, most):
        made.append(GraphedModel(model, most))
        return made[-1]

    monkeypatch.setattr("mtla_espnet.tasks.trainer.GraphedModel", graphed)
    arguments = [*corpus.arguments(tmp_path), "--encoder", encoder, "--max_epoch", "6"]
    arguments += ["--encoder_conf", "use_sdpa=true", "--specaug", "specaug", "--ngpu", "1"]
    arguments += ["--specaug_conf", "time_mask_width_range=[0,5]", "--use_amp", "true"]
    run_espnet("espnet2.bin.asr_train", [*arguments, "--train_graphs", "8"])
    assert [len(each.shapes) for each in made] == [2]
    reports = load_reports(tmp_path)
    losses = [reports[epoch]["train"]["loss"] for epoch in range(1, 7)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def load_reports(directory):
    checkpoint = torch.load(directory / "checkpoint.pth", weights_only=False, map_location="cpu")
    return checkpoint["reporter"]["stats"]


@pytest.mark.gpu
def test_memory_is_that_of_the_largest_graph():
    model = build("asr", **GPU).cuda()
    sizes = [(rows, frames) for rows in (6, 9, 16, 24) for frames in (400, 800)]

    def reserved(shapes):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        graphed = GraphedModel(model, len(shapes))
        for rows, frames in shapes:
            for _ in range(3):
                learned(graphed, batch_of("asr", [(frames, 20)] * rows, 0, "cuda"))
        assert len(graphed.shapes) == len(shapes)
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved() - before

    largest = reserved(sizes[-1:])
    assert reserved(sizes[::-1]) < 1.5 * largest
