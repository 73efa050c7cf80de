"""Language models of text: ESPnet's LM task with our trainer."""

from espnet2.tasks import lm

from mtla_espnet.tasks.own_task import OwnTask


class LMTask(OwnTask, lm.LMTask):
    """ESPnet's LMTask; its processes import this module, and so register our classes."""
