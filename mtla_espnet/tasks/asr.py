"""Speech recognition: ESPnet's ASR task with our trainer."""

from espnet2.tasks import asr

from mtla_espnet.tasks.own_task import OwnTask


class ASRTask(OwnTask, asr.ASRTask):
    """ESPnet's ASRTask; its processes import this module, and so register our classes."""
