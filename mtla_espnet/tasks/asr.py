"""Speech recognition: ESPnet's ASR task with our trainer."""

from espnet2.tasks import asr

from mtla_espnet.tasks.trainer import Trainer


class ASRTask(asr.ASRTask):
    """ESPnet's ASRTask; its processes import this module, and so register our classes."""

    trainer = Trainer
