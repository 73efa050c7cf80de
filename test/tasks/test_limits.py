"""What a model cannot be trained on is found without running its encoder on everything."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.files import UserError
from mtla_espnet.task import TASKS
from mtla_espnet.tasks.limits import ModelLimits, ctc_frames
from mtla_espnet.tasks.register import task_class

pytestmark = pytest.mark.espnet

CONV2D = ["--encoder", "conformer", "--encoder_conf", "input_layer=conv2d"]
CENTERED = ["--frontend_conf", "center=true"]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.integers(1, 12))
def test_ctc_can_align_in_so_many_frames_and_not_in_fewer(tokens, frames):
    uniform = torch.full((frames, 1, 4), 0.25).log()
    loss = torch.nn.functional.ctc_loss(
        uniform, torch.tensor([tokens]), torch.tensor([frames]), torch.tensor([len(tokens)])
    )
    assert loss.isfinite() == (ctc_frames(tokens) <= frames)


@pytest.fixture(scope="module")
def limits_of(corpus, tmp_path_factory):
    def build(*argv, task="asr", source=False):
        arguments = corpus.arguments(tmp_path_factory.mktemp("exp"), source=source)
        return ModelLimits(task_class(TASKS[task]), [*arguments, *argv])

    return build


def named(values):
    return {f"utt{number:03}": value for number, value in enumerate(values)}


def unaligned(limits, lengths, texts, name="text"):
    """Call `unaligned` with one text an utterance; a letter is a token."""
    counts = {name: {key: (len(text),) for key, text in named(texts).items()}}
    return limits.unaligned(named((length,) for length in lengths), counts, {name: named(texts)})


@pytest.mark.parametrize("options", [[], CENTERED, CONV2D, [*CONV2D, *CENTERED]])
def test_the_found_are_those_that_a_look_at_everything_finds(limits_of, options):
    limits = limits_of(*options)
    random = np.random.default_rng(0)
    lengths = random.integers(50, 9000, 200).tolist()
    lengths[:10] = range(255, 265)  # about a window: the first ones make no frame
    frames = [limits.frames((length,)) for length in lengths]
    refused = limits.refused(named((length,) for length in lengths))
    assert refused.keys() == {key for key, count in named(frames).items() if count == 0}
    assert 0 < len(refused) < 200
    lengths = [length for length, count in zip(lengths, frames, strict=True) if count]
    frames = [count for count in frames if count]
    texts = ["".join(random.choice(list("on"), random.integers(1, 45))) for _ in lengths]
    found = unaligned(limits, lengths, texts)
    needed = [ctc_frames(text) for text in texts]
    more = [need > there for need, there in zip(needed, frames, strict=True)]
    assert found.keys() == {key for key, is_more in named(more).items() if is_more}
    assert 0 < len(found) < len(lengths)


def test_the_encoder_runs_on_few_lengths(limits_of, monkeypatch):
    limits = limits_of()
    run = []
    encode = limits._model.encode
    monkeypatch.setattr(
        limits._model, "encode", lambda *inputs: run.append(inputs) or encode(*inputs)
    )
    lengths = range(4000, 8000, 2)
    assert limits.refused(named((length,) for length in lengths)) == {}
    assert unaligned(limits, lengths, ["on off"] * 2000) == {}
    assert len(run) < 40


def test_the_reason_says_what_is_needed_and_there(limits_of):
    limits = limits_of()
    found = limits.refused(named([(4000,), (200,)]))
    assert found == {"utt001": "200 samples are too short for the encoder"}
    # 4000 samples: 47 frames of 256 every 80, then two strides of 2
    found = unaligned(limits, [4000, 4000], ["off on", "on off " * 3])
    reason = "CTC needs 24 frames for its 21 tokens, and the encoder makes 12 of the audio"
    assert found == {"utt001": ("text", reason)}


def test_frames_that_do_not_grow_by_a_stride_are_not_looked_at(limits_of, monkeypatch):
    limits = limits_of()
    monkeypatch.setattr(limits, "frames", lambda shape: 1 + shape[0] // 100 * 3)
    assert unaligned(limits, [4000, 4001, 8000], ["on" * 99] * 3) == {}


@pytest.mark.parametrize(
    ("task", "options", "texts"),
    [
        ("asr", {"ctc_weight": 0.3}, {"text": 0}),
        ("asr", {"ctc_weight": 0.0}, {}),
        ("slu", {"ctc_weight": 0.3}, {"text": 0}),
        ("st", {"asr_weight": 0.3, "mtlalpha": 1.0}, {"src_text": 0}),
        ("st", {"asr_weight": 0.0}, {}),
    ],
)
def test_texts_that_ctc_aligns(limits_of, task, options, texts):
    words = [f"--model_conf={key}={value}" for key, value in options.items()]
    assert limits_of(*words, task=task, source=task == "st").ctc_texts == texts


def test_ctc_leaves_the_intent_out(limits_of):
    options = ["--model", "decoder_only_slu", "--model_conf", "ctc_skip_tokens=1"]
    limits = limits_of(*options, task="slu")
    assert limits.ctc_texts == {"text": 1}
    frames = limits.frames((4000,))
    fits = ("on" * frames)[: frames + 1]
    assert unaligned(limits, [4000, 4000], [fits, fits + "f"]).keys() == {"utt001"}


def test_the_audio_is_longer_than_the_encoders_positions(limits_of, monkeypatch):
    limits = limits_of()
    encode = limits._model.encode

    def with_positions(speech, lengths):
        if speech.size(1) > 4000:
            raise UserError("longer than the positions")
        return encode(speech, lengths)

    monkeypatch.setattr(limits._model, "encode", with_positions)
    found = limits.refused(named([(4000,), (4001,), (3000,), (5000,)]))
    reason = "longer than the positions"
    assert found == {"utt001": reason, "utt003": reason}
    assert limits.refused(named([(5000,)])) == {"utt000": reason}


def test_the_random_state_stays(limits_of):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    limits_of()
    assert torch.get_rng_state().equal(before)


def test_an_argument_that_espnet_refuses_is_one_line(limits_of):
    with pytest.raises(UserError, match="ESPnet's training: argument --batch_type: invalid choice"):
        limits_of("--batch_type", "zz")
