"""What the page's models make of an input is what the commands make of it."""

import numpy as np
import pytest

from mtla_espnet.demo.models import kind_of, shown_models
from mtla_espnet.files import UserError
from mtla_espnet.inference.from_files import load
from mtla_espnet.inference.model_files import task_of_files
from small_models import save_model

pytestmark = pytest.mark.espnet


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "speech", "asr", "mtla")


def test_the_beam_size_is_that_of_each_answer(speech):
    (shown,) = shown_models([speech], "cpu", 20.0)
    random = np.random.default_rng(0)
    samples = random.normal(0, 0.1, 9000).astype(np.float32)
    for beam_size in (1, 6, 2):
        expected = load("asr", speech, options={"beam_size": beam_size}, device="cpu")(samples)
        answer = shown.answer((samples, 8000), beam_size)
        assert answer.text == expected[0][0] != ""
        assert answer.cost.search_s > 0 and answer.cost.cache_bytes_peak > 0
    with pytest.raises(UserError, match="beam_size"):
        shown.answer((samples, 8000), 0)


def test_a_long_recording_is_cut_and_its_times_are_of_the_whole(speech):
    (shown,) = shown_models([speech], "cpu", 1.0)
    samples = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    answer = shown.answer((samples, 8000), 2)
    assert len(answer.pieces) >= 3
    starts = [word.start_s for piece in answer.pieces for word in piece.times]
    assert starts == sorted(starts) and starts[-1] > 1.0


def test_names_tell_models_apart(speech):
    names = [model.name for model in shown_models([speech, speech], "cpu", 20.0)]
    assert names == ["mtla s=2: speech", "mtla s=2: speech (2)"]
    assert task_of_files(speech).name == "asr"
    assert kind_of(load("asr", speech, device="cpu")) == "mtla s=2"
