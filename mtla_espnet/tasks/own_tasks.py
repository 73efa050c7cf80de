"""ESPnet's tasks with our trainer.

A process that ESPnet spawns unpickles a task by the name of this module: it imports the package,
which registers our classes.
"""

from espnet2.tasks import asr, lm, mt, slu, st

from mtla_espnet.tasks.own_task import OwnTask


class ASRTask(OwnTask, asr.ASRTask):
    """Speech recognition."""


class STTask(OwnTask, st.STTask):
    """Speech translation."""


class SLUTask(OwnTask, slu.SLUTask):
    """Spoken language understanding."""


class MTTask(OwnTask, mt.MTTask):
    """Text in, text out: summarisation."""


class LMTask(OwnTask, lm.LMTask):
    """Language models of tokens."""
