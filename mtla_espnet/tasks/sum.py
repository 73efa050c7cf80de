"""Text summarisation: ESPnet's MT task (text in, text out) with our trainer."""

from espnet2.tasks import mt

from mtla_espnet.tasks.trainer import Trainer


class MTTask(mt.MTTask):
    """ESPnet's MTTask; its processes import this module, and so register our classes."""

    trainer = Trainer
