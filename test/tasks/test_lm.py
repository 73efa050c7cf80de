"""ESPnet's LM program trains with our trainer."""

import pytest

pytestmark = pytest.mark.espnet


def test_the_program_takes_the_registered_task():
    from mtla_espnet.tasks.register import register

    register()
    from espnet2.bin import lm_calc_perplexity, lm_train

    from mtla_espnet.tasks.own_tasks import LMTask
    from mtla_espnet.tasks.trainer import Trainer

    assert lm_train.LMTask is LMTask
    assert lm_calc_perplexity.LMTask is LMTask
    assert LMTask.trainer is Trainer
