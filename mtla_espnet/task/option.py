"""An option of a recipe."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Option:
    """One option.

    Args:
        name: with underscores; `--a_b` and `--a-b` both set `a_b`. `{model}` in it stands for
            the task's `asr`, `st`, `slu` or `mt`; with `{side}` there is one for each token
            list of the task: `nbpe` in ASR, `src_nbpe` and `tgt_nbpe` in translation.
        default: its type is the option's type: bool, int, float or str. None: an int
            that is chosen by the machine when it is needed.
        help: one or two sentences.
        choices: the values that mean something; empty: any.
        unsupported: value -> why this project cannot do it yet; `...` stands for every
            value but the default.
        of: traits of a task, of which one is enough to have it; empty: all
            tasks have it.
        changes: stages whose results it changes, and which are done anew with another value,
            beside those whose directories it names. What a score depends on is said in
            `mtla_espnet.score.registry`.
        of_the_pass: it decides whether these stages pass, and not what they write.
    """

    name: str
    default: bool | int | float | str | None
    help: str
    choices: tuple = ()
    unsupported: dict = dataclasses.field(default_factory=dict)
    of: tuple[str, ...] = ()
    changes: tuple[int, ...] = ()
    of_the_pass: bool = False


STREAMING = Option(
    "use_streaming",
    False,
    "Decode while the speaker speaks.",
    unsupported={True: "not supported: the decoder reads the whole utterance first"},
)
