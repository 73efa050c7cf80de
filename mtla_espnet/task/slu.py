"""Spoken language understanding: the intent, and the words."""

from mtla_espnet.task.option import Option
from mtla_espnet.task.record import Task, TaskText

TASK = Task(
    name="slu",
    model="slu",
    does="spoken language understanding",
    verb=("understand", "turn sound files into intents and words"),
    speech=True,
    texts=(
        TaskText("text", "", "text"),
        TaskText(
            name="transcript",
            side="",
            table="transcript",
            prefix="transcript_",
            only_if="use_transcript",
            words=True,
            passed_on=("two_pass", "pre_postencoder_norm"),
        ),
    ),
    inference="mtla_espnet.inference.speech2understand:Speech2Understand",
    espnet_inference="Speech2Understand",
    hub_tag="spoken-language-understanding",
    config_key="deliberationencoder",
    scores=("rates", "intents"),
    options={
        "Data": (
            Option(
                "use_transcript",
                False,
                "Give the model data/<set>/transcript too, words and no intent.",
            ),
            Option(
                "two_pass",
                False,
                "Understand speech and transcript: the training configuration has a postdecoder. "
                "Needs --use_transcript true.",
                changes=(11,),
            ),
            Option(
                "pre_postencoder_norm",
                False,
                "ESPnet's option of the same name.",
                changes=(11,),
            ),
        ),
    },
)
