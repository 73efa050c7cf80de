"""Tags: names of models, decodings and statistics, as ESPnet's scripts make them."""

import re
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.recipe.texts import TokenSet
from mtla_espnet.task.record import Task


class Tags:
    """Names that follow from the options.

    Args:
        options: what `parse_options` returns.
        task: of the recipe.
        kind: of input: `raw`, `extracted`, `fairseq_zip`, and such as `raw_8k` at another rate.
        tokens: of what the model writes.
        speed: `_sp` where the training set has copies at other speeds, else empty.
    """

    def __init__(
        self, options: SimpleNamespace, task: Task, kind: str, tokens: TokenSet, speed: str
    ):
        self._options, self._task, self._kind = options, task, kind
        self._tokens, self._speed = tokens, speed

    @property
    def statistics(self) -> str:
        """Name of the statistics of stage 10."""
        return f"{self._task.model}_stats_{self._kind}{self.lm_tokens}{self._frontend}{self._speed}"

    @property
    def experiment(self) -> str:
        """Name of the experiment."""
        options, model = self._options, self._task.model
        given, config, arguments = (
            getattr(options, f"{model}_{name}") for name in ("tag", "config", "args")
        )
        if given:
            return given
        name = Path(config).stem if config else "train"
        case = f"_{getattr(options, self._task.case)}" if self._task.case else ""
        size = self._tokens.options.get("nbpe", "")
        tokens = f"{self._kind}{self._lang}_{self._tokens.token_type}{case}{size}"
        attention = f"_{Path(options.attention).stem}" if options.attention else ""
        overlays = f"{self._frontend}{attention}{as_tag(arguments, '|=/')}"
        return f"{name}_{tokens}{overlays}{self._speed}"

    @property
    def lm(self) -> str:
        """Name of the language model."""
        options = self._options
        config = Path(options.lm_config).stem if options.lm_config else "train"
        return options.lm_tag or f"{config}{self.lm_tokens}{as_tag(options.lm_args, '|=/')}"

    @property
    def lm_tokens(self) -> str:
        """Language and tokens, in the names of what is made of text alone."""
        return f"{self._lang}_{self._tokens.tag}"

    def inference(self, lm: str, lm_file: str, ngram: str, ngram_file: str) -> str:
        """Return the name of the decoding.

        Args:
            lm: name of the directory of the language model.
            lm_file: of its parameters.
            ngram: name of the directory of the n-gram.
            ngram_file: the n-gram.
        """
        options, model = self._options, self._task.model
        if options.inference_tag:
            return options.inference_tag
        config = Path(options.inference_config).stem if options.inference_config else "inference"
        beside = f"_lm_{lm}_{_stem(lm_file)}" if options.use_lm else ""
        beside += f"_ngram_{ngram}_{_stem(ngram_file)}" if options.use_ngram else ""
        files = getattr(options, f"inference_{model}_model").split()
        file = "_".join(map(_stem, files))
        return f"{config}{as_tag(options.inference_args, '|=')}{beside}_{model}_model_{file}"

    @property
    def _lang(self) -> str:
        return "" if self._options.lang == "noinfo" else f"_{self._options.lang}"

    @property
    def _frontend(self) -> str:
        name = getattr(self._options, "frontend", "")
        return f"_{Path(name).stem}" if name else ""


def _stem(file: str) -> str:
    return re.sub(r"\.[^.]*$", "", file.replace("/", "_"))


def as_tag(arguments: str, dropped: str) -> str:
    """Turn arguments into a part of a tag.

    Args:
        arguments: of a command line.
        dropped: characters that are left out, besides blanks.

    Example:
        >>> as_tag("--optim_conf lr=0.1 --max_epoch 3", "|=")
        '_optim_conflr0.1_max_epoch3'
    """
    return re.sub(f"[ {re.escape(dropped)}]", "", arguments.replace("--", "_"))
