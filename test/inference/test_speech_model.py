"""What models of speech refuse of one utterance, they refuse of it among others."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.inference.speech2text import Speech2Text

pytestmark = pytest.mark.espnet

OPTIONS = {"beam_size": 2, "maxlenratio": -6}
GOOD = np.random.default_rng(0).normal(0, 0.1, 6000).astype(np.float32)
# Encoder, sub-sampling, and frames that it needs: the first of 256 samples, one more every 80.
ENCODERS = (
    ("conv1d_conformer", None, 1),
    ("transformer", "conv2d", 7),
    ("transformer", "conv2d6", 11),
    ("transformer", "conv2d8", 15),
)


@pytest.fixture(scope="module")
def load(make_model, tmp_path_factory):
    @functools.cache
    def loaded(encoder, input_layer, ctc_weight):
        conf = {"output_size": 16, "attention_heads": 2, "linear_units": 32, "num_blocks": 1}
        if input_layer:
            conf["input_layer"] = input_layer
        more = {"encoder": encoder, "encoder_conf": conf}
        recipe = tmp_path_factory.mktemp("recipe")
        model = make_model(recipe, "short", "decoder_only", more, attention="mtla")
        return Speech2Text.from_pretrained(model.directory, ctc_weight=ctc_weight, **OPTIONS)

    return loaded


def tokens_of(results):
    return [(result[2], pytest.approx(result[3].score, abs=1e-3)) for result in results]


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_one_very_short_utterance_is_in_a_batch_what_it_is_alone(load, encoder, ctc_weight):
    speech2text = load(*encoder[:2], ctc_weight)
    good = tokens_of(speech2text(GOOD))
    least = speech2text._least_length

    @settings(max_examples=12)
    @given(st.lists(st.integers(1, 2000) | st.integers(least - 2, least + 1), max_size=4))
    def check(lengths):
        waves = [GOOD[:length] for length in lengths]
        *shorts, last = speech2text([*waves, GOOD])
        assert tokens_of(last) == good
        for wave, found in zip(waves, shorts, strict=True):
            assert tokens_of(found) == tokens_of(speech2text(wave))
            assert bool(found) == (len(wave) >= least)

    check()


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_the_least_length_is_the_first_that_the_encoder_takes(load, encoder):
    speech2text = load(*encoder[:2], 0.0)
    least = speech2text._least_length
    assert least == 256 + 80 * (encoder[2] - 1)
    assert speech2text([GOOD[: least - 1]]) == [[]]
