"""Speech translation."""

from mtla_espnet.task.option import STREAMING, Option
from mtla_espnet.task.record import Task, TaskText

_CASES = ("tc", "lc", "lc.rm")

TASK = Task(
    name="st",
    model="st",
    does="speech translation",
    verb=("translate", "turn sound files into text of another language"),
    speech=True,
    texts=(
        TaskText("text", "tgt_", "text.{tgt_case}.{tgt_lang}"),
        TaskText("src_text", "src_", "text.{src_case}.{src_lang}", prefix="src_"),
    ),
    inference="mtla_espnet.inference.speech2translation:Speech2Translation",
    espnet_inference="Speech2Text",
    hub_tag="speech-translation",
    config_key="st_joint_net_conf",
    scores=("translation",),
    case="tgt_case",
    options={
        "Data": (
            Option("src_lang", "es", "Language that is spoken."),
            Option("tgt_lang", "en", "Language that is written."),
            Option(
                "src_case",
                "lc.rm",
                "Case of the source text, data/<set>/text.<src_case>.<src_lang>: tc as it is, lc "
                "lower, lc.rm lower without punctuation.",
                choices=_CASES,
            ),
            Option(
                "tgt_case",
                "tc",
                "Case of the target text, data/<set>/text.<tgt_case>.<tgt_lang>.",
                choices=_CASES,
            ),
        ),
        "Model": (
            Option(
                "pretrained_asr",
                "",
                "The same, for a recogniser whose encoder it is: exp/asr_x/y.pth:encoder:encoder.",
            ),
        ),
        "Decoding and scoring": (STREAMING,),
    },
)
