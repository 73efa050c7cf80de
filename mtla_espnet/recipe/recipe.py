"""A recipe: its options, and what follows from them."""

import dataclasses
import functools
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.data.fairseq.config import FairseqConfig, read_fairseq_config
from mtla_espnet.recipe.options import rate_tag, sampling_rate
from mtla_espnet.recipe.overlays import find_overlay
from mtla_espnet.recipe.paths import Paths
from mtla_espnet.recipe.sets import Sets
from mtla_espnet.recipe.speech_input import SpeechInput
from mtla_espnet.recipe.tags import Tags
from mtla_espnet.recipe.texts import Text, TokenSet, texts_of
from mtla_espnet.task import TASKS
from mtla_espnet.task.record import Task


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the stages work on.

    Args:
        options: what `parse_options` returns.
        root: the recipe's directory.
        laid_config: the training configuration, over what Fairseq's says, with `--attention`
            laid over it.
        train_config: the same with `--<model>_args` laid over it too.
        inference_config: the decoding configuration with `--inference_args` laid over it,
            and the files of the language model.
        lm_config: the configuration of the language model with `--lm_args` laid over it.
        notes: what the user is to know of it before it runs.

    Raises:
        UserError: a required set is missing, or the training set is also another set.
    """

    options: SimpleNamespace
    root: Path = Path(".")
    laid_config: dict = dataclasses.field(default_factory=dict)
    train_config: dict = dataclasses.field(default_factory=dict)
    inference_config: dict = dataclasses.field(default_factory=dict)
    lm_config: dict = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        _ = self.sets, self.speech  # they check their options

    @functools.cached_property
    def task(self) -> Task:
        """The kind of recipe."""
        return TASKS[self.options.task]

    def model_option(self, name: str) -> object:
        """Return an option that is named after the model: `config` is `--asr_config` in ASR."""
        return getattr(self.options, f"{self.task.model}_{name}")

    @property
    def model_splits(self) -> int:
        """Parts that the training set is split into; 1: it is not."""
        return max(1, getattr(self.options, f"num_splits_{self.task.model}"))

    # Data

    @property
    def feats_type(self) -> str:
        """Kind of input; raw for text, as in ESPnet."""
        return getattr(self.options, "feats_type", "raw")

    @property
    def kind(self) -> str:
        """Kind of input, for tags and the dump, with a sampling rate that is not 16 kHz."""
        return f"{self.feats_type}{rate_tag(self.options.fs) if self.task.speech else ''}"

    @functools.cached_property
    def rate(self) -> int | None:
        """Sampling rate of the dump, in Hz; None where there is no speech."""
        return sampling_rate(self.options.fs) if self.task.speech else None

    @functools.cached_property
    def speech(self) -> SpeechInput | None:
        """What the model hears; None where it reads."""
        if not self.task.speech:
            return None
        return SpeechInput(self.options.feats_type, self.options.audio_format, self.rate)

    @functools.cached_property
    def sets(self) -> Sets:
        """Names and data of the sets."""
        return Sets(self.options, self.root, self.kind)

    @property
    def fairseq_dir(self) -> Path | None:
        """Directory of Fairseq's manifests; None: there are none."""
        name = getattr(self.options, "fairseq_dir", "")
        return self.root / name if name else None

    @functools.cached_property
    def fairseq(self) -> FairseqConfig:
        """What applies of the `config.yaml` beside Fairseq's manifests.

        Raises:
            UserError: it is malformed.
        """
        path = self.fairseq_dir and self.fairseq_dir / "config.yaml"
        return read_fairseq_config(path) if path and path.exists() else FairseqConfig()

    # Texts and tokens

    @functools.cached_property
    def texts(self) -> list[Text]:
        """The texts of each set; the first is what the model writes."""
        return texts_of(self.options, self.root, self.task, self.sets, self.fairseq)

    @property
    def tables(self) -> list[str]:
        """The tables of text that a set has, `text` first."""
        return list(dict.fromkeys(["text", *(text.table for text in self.texts)]))

    @property
    def tokens(self) -> TokenSet:
        """The tokens of what the model writes."""
        return self.texts[0].tokens

    @property
    def nlsyms_file(self) -> Path | None:
        """File of non-linguistic symbols, one a line; None where there are none."""
        name = self.options.nlsyms_txt
        return None if name in ("none", "") else self.root / name

    # Experiments

    @functools.cached_property
    def tags(self) -> Tags:
        """Names of experiments."""
        speed = "_sp" if self.sets.speed_factors else ""
        return Tags(self.options, self.task, self.kind, self.tokens, speed)

    @functools.cached_property
    def paths(self) -> Paths:
        """Directories and files of the experiments."""
        return Paths(self.options, self.root, self.task, self.tags)

    @property
    def attention_overlay(self) -> Path | None:
        """The file that `--attention` names.

        Raises:
            UserError: there is none.
        """
        return find_overlay(self.root, "attention", self.options.attention)

    @property
    def frontend_overlay(self) -> Path | None:
        """The file that `--frontend` names.

        Raises:
            UserError: there is none.
        """
        return find_overlay(self.root, "frontend", getattr(self.options, "frontend", ""))

    @property
    def normalization(self) -> dict[Path, int]:
        """File of statistics that features are normalised by -> its stage; or nothing."""
        if self.fairseq.global_cmvn:
            return {self.root / "data/fairseq_global_cmvn.npz": 1}
        chosen = getattr(self.options, "feats_normalize", "") == "global_mvn"
        is_normal = "normalize" in self.fairseq.options
        return {self.paths.feature_statistics: 10} if chosen and not is_normal else {}
