"""What the tasks of the recipes differ in; nothing else knows a task by its name.

A task is trained by a program of ESPnet (`asr_train`, `st_train`, `slu_train`, `mt_train`) on
tables of the data directories: what the model hears or reads, and texts. Each text has a name
in ESPnet and tokens of its own. Names and places are those of ESPnet2's asr.sh, st.sh, slu.sh
and mt.sh.
"""

import dataclasses
from collections.abc import Mapping

from mtla_espnet.task.option import Option


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
        does: in words, for messages.
        verb: of the command that decodes single files, and what it does, for the help.
        speech: the input is speech; else it is the text `src_text`.
        texts: the first is what the model writes.
        inference: `module:class` of trained models.
        espnet_inference: ESPnet's class of them, in `espnet2.bin.<model>_inference`.
        hub_tag: by which the Hugging Face hub finds its models.
        config_key: what the configurations of this task alone have, as ESPnet's training writes
            them; empty: those that have no key of another task are of this one.
        scores: how decoded sets are scored, by names of `mtla_espnet.score.registry`.
        case: option that the tags name the case of the written text by; empty: they do not.
        bodies: stage -> its body, where it is another one than that of speech recognition.
        left_out: stage -> why it does not apply.
        options: group -> options that this task alone has.
    """

    name: str
    model: str
    does: str
    verb: tuple[str, str]
    speech: bool
    texts: tuple[TaskText, ...]
    inference: str
    espnet_inference: str
    hub_tag: str
    config_key: str = ""
    scores: tuple[str, ...] = ("rates",)
    case: str = ""
    bodies: Mapping[int, str] = dataclasses.field(default_factory=dict)
    left_out: Mapping[int, str] = dataclasses.field(default_factory=dict)
    options: Mapping[str, tuple[Option, ...]] = dataclasses.field(default_factory=dict)

    @property
    def program(self) -> str:
        """ESPnet's program that trains, a module of `espnet2.bin`."""
        return f"{self.model}_train"

    @property
    def espnet_task(self) -> str:
        """Name of ESPnet's class of the task, in `espnet2.tasks.<model>`."""
        return f"{self.model.upper()}Task"

    @property
    def sides(self) -> tuple[str, ...]:
        """What options of tokens begin with, without repetition."""
        return tuple(dict.fromkeys(text.side for text in self.texts))

    @property
    def traits(self) -> frozenset[str]:
        """What options that several tasks have ask for: input, token lists and scores."""
        lists = {"two token lists"} if len(self.sides) > 1 else set()
        return frozenset({"speech" if self.speech else "text", *lists, *self.scores})
