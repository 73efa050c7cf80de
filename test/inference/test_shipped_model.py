"""The model that comes with the package is found by its name, and hears."""

import numpy as np
import pytest

from mtla_espnet.files import UserError
from mtla_espnet.inference.model_files import model_files

pytestmark = pytest.mark.espnet


def test_its_name_is_enough_and_it_is_called_as_espnet_calls():
    from mtla_espnet import Speech2Text

    speech2text = Speech2Text.from_pretrained("smarthome", device="cpu", beam_size=2)
    noise = np.random.default_rng(0).normal(0, 0.01, 16000).astype(np.float32)
    one = speech2text(speech=noise)
    several = speech2text(speech=[noise, noise[:12000]])  # as espnet3's runner does
    assert isinstance(one[0][0], str) and len(several) == 2
    assert several[0][0][2] == one[0][2]
    assert speech2text.options.ctc_weight == 0.3  # its recipe's


def test_a_directory_of_that_name_is_taken_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smarthome").mkdir()
    with pytest.raises(UserError, match="smarthome: has no config.yaml"):
        with model_files("smarthome"):
            pass


def test_an_unknown_name_tells_those_that_are_known():
    with pytest.raises(UserError, match=r"smarthom: no such directory .*by name: smarthome\)"):
        with model_files("smarthom"):
            pass
