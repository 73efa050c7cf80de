"""How the utterances of a data directory are read when a set is formatted."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtla_espnet.data.kaldi.rejected import DEFAULT_PERCENT


@dataclass(frozen=True)
class ReadingOptions:
    """What every copy of a data directory needs to know, of audio or of features.

    Attributes:
        nj: blocks of utterances that are written side by side, at most one a processor.
        progress: show a progress bar in a terminal.
        tables: tables by utterance that are copied too, such as `text.tc.de`.
        max_rejected: per cent of the utterances that may be left out; more are an error.
        allow_pipes: run the commands that `wav.scp` has.
        channel: the channel to take, from 0; None: the mean of all. `utt2ref_channels` in the
            data directory says it for each utterance instead.
        fresh: write also the blocks that an interrupted run has written.
    """

    nj: int = 1
    progress: bool = True
    tables: Sequence[str] = ("text",)
    max_rejected: float = DEFAULT_PERCENT
    allow_pipes: bool = False
    channel: int | None = 0
    fresh: bool = False


DEFAULT_READING = ReadingOptions()
