"""Spoken language understanding: ESPnet's SLU task with our trainer."""

from espnet2.tasks import slu

from mtla_espnet.tasks.own_task import OwnTask


class SLUTask(OwnTask, slu.SLUTask):
    """ESPnet's SLUTask; its processes import this module, and so register our classes."""
