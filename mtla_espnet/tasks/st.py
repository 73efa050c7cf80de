"""Speech translation: ESPnet's ST task with our trainer."""

from espnet2.tasks import st

from mtla_espnet.tasks.own_task import OwnTask


class STTask(OwnTask, st.STTask):
    """ESPnet's STTask; its processes import this module, and so register our classes."""
