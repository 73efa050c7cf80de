"""Summarisation of text; ESPnet's machine translation (`mt`) from a document to its summary."""

from mtla_espnet.task.record import Task, TaskText

TASK = Task(
    name="sum",
    model="mt",
    does="summarisation",
    verb=("summarise", "turn documents into shorter texts"),
    speech=False,
    texts=(
        TaskText("text", "tgt_", "text"),
        TaskText("src_text", "src_", "src_text", prefix="src_"),
    ),
    inference="mtla_espnet.inference.text2text:Text2Text",
    espnet_inference="Text2Text",
    hub_tag="summarization",
    config_key="src_token_list",
    scores=("summaries",),
    bodies={3: "s03_format_text", 4: "s04_filter_text"},
    left_out={2: "text has no speed"},
)
