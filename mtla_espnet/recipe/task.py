"""What the tasks of the recipes differ in; the stages know no task by its name.

A task is trained by a program of ESPnet (`asr_train`, `st_train`, `slu_train`, `mt_train`) on
tables of the data directories: what the model hears or reads, and texts. Each text has a name
in ESPnet and tokens of its own. Names and places are those of ESPnet2's asr.sh, st.sh, slu.sh
and mt.sh.
"""

import dataclasses

from mtla_espnet.files import UserError


@dataclasses.dataclass(frozen=True)
class TaskText:
    """A text that a model of the task writes, reads or is trained with.

    Args:
        name: in ESPnet's data: text, src_text or transcript.
        side: what the options of its tokens begin with: "", "src_" or "tgt_".
        table: its table in a data directory, with options in braces.
        prefix: what ESPnet's arguments of its tokens begin with: "", "src_" or "transcript_".
        only_if: the option (true or false) that brings it; empty: it is always there.
        words: ESPnet cuts it at blanks, whatever the unit of the other texts is, and knows a
            token list of it alone.
        passed_on: options that ESPnet takes by the same name along with it.
    """

    name: str
    side: str
    table: str
    prefix: str = ""
    only_if: str = ""
    words: bool = False
    passed_on: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of recipes.

    Args:
        name: of `mtla-espnet recipe` and of the recipe's script: `<name>.sh`.
        model: what ESPnet calls it: of programs, options and experiments.
        does: in words, for the help.
        speech: the input is speech; else it is the text `src_text`.
        texts: the first is what the model writes.
        scores: how decoded sets are scored, by names of `mtla_espnet.score.registry`.
        case: option that the tags name the case of the written text by; empty: they do not.
        bodies: stage -> its body, where it is another one than that of speech recognition.
        left_out: stage -> why it does not apply.
    """

    name: str
    model: str
    does: str
    speech: bool
    texts: tuple[TaskText, ...]
    scores: tuple[str, ...] = ("rates",)
    case: str = ""
    bodies: dict[int, str] = dataclasses.field(default_factory=dict)
    left_out: dict[int, str] = dataclasses.field(default_factory=dict)

    @property
    def program(self) -> str:
        """ESPnet's program that trains, a module of `espnet2.bin`."""
        return f"{self.model}_train"

    @property
    def sides(self) -> tuple[str, ...]:
        """What options of tokens begin with, without repetition."""
        return tuple(dict.fromkeys(text.side for text in self.texts))


TASKS = {
    task.name: task
    for task in (
        Task("asr", "asr", "speech recognition", True, (TaskText("text", "", "text"),)),
        Task(
            name="st",
            model="st",
            does="speech translation",
            speech=True,
            texts=(
                TaskText("text", "tgt_", "text.{tgt_case}.{tgt_lang}"),
                TaskText("src_text", "src_", "text.{src_case}.{src_lang}", prefix="src_"),
            ),
            scores=("translation",),
            case="tgt_case",
        ),
        Task(
            name="slu",
            model="slu",
            does="spoken language understanding",
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
            scores=("rates", "intents"),
        ),
        Task(
            name="sum",
            model="mt",
            does="summarisation of text",
            speech=False,
            texts=(
                TaskText("text", "tgt_", "text"),
                TaskText("src_text", "src_", "src_text", prefix="src_"),
            ),
            scores=("summaries",),
            bodies={3: "s03_format_text", 4: "s04_filter_text"},
            left_out={2: "text has no speed"},
        ),
    )
}


def task_named(name: str) -> Task:
    """Return a task.

    Raises:
        UserError: there is none of that name (exit code 2).
    """
    if name not in TASKS:
        raise UserError(f"recipe: unknown task {name!r}; there are {', '.join(TASKS)}", 2)
    return TASKS[name]
