"""Text summarisation: ESPnet's MT task (text in, text out) with our trainer."""

from espnet2.tasks import mt

from mtla_espnet.tasks.own_task import OwnTask


class MTTask(OwnTask, mt.MTTask):
    """ESPnet's MTTask; its processes import this module, and so register our classes."""
