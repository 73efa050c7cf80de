"""Speech recognition."""

from mtla_espnet.task.option import STREAMING, Option
from mtla_espnet.task.record import Task, TaskText

TASK = Task(
    name="asr",
    model="asr",
    does="speech recognition",
    verb=("transcribe", "turn sound files into text"),
    speech=True,
    texts=(TaskText("text", "", "text"),),
    inference="mtla_espnet.inference.speech2text:Speech2Text",
    espnet_inference="Speech2Text",
    hub_tag="automatic-speech-recognition",
    options={
        "Decoding and scoring": (
            Option(
                "use_k2",
                False,
                "Decode by k2.",
                unsupported={
                    True: "not supported: decoding is a beam search of this project's own"
                },
            ),
            STREAMING,
        ),
    },
)
