"""Names and places: tags, directories and files of a recipe, as in ESPnet2's asr.sh."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.files import UserError
from mtla_espnet.stages.options import sampling_rate, speed_factors


class Layout:
    """A recipe's options and every path that follows from them.

    Paths are relative to the recipe's directory where `root` is ".", as in the files
    that ESPnet's recipes write, so that a recipe's directory can be moved.

    Args:
        options: what `parse_options` returns.
        root: the recipe's directory.

    Raises:
        UserError: a required set is missing, or the training set is also another set.
    """

    def __init__(self, options: SimpleNamespace, root: str | os.PathLike = "."):
        for name in ("train_set", "valid_set", "test_sets"):
            if not getattr(options, name).strip():
                raise UserError(f"--{name} is required", exit_code=2)
        self.options = options
        self.root = Path(root)
        self.speed_factors = speed_factors(options.speed_perturb_factors)
        self._speed_tag = "_sp" if self.speed_factors else ""
        # The set that stage 1 makes, and the one that stages 2 to 11 work on.
        self.original_train_set = options.train_set
        self.train_set = f"{options.train_set}{self._speed_tag}"
        self.valid_set = options.valid_set
        test_sets = list(dict.fromkeys(options.test_sets.split()))
        for name in (self.original_train_set, self.train_set):
            if name == self.valid_set or name in test_sets:
                raise UserError(f"--train_set {name} is also a validation or test set", 2)
        self.eval_valid_set = options.eval_valid_set or self.valid_set in test_sets
        self.test_sets = [name for name in test_sets if name != self.valid_set]
        self.rate = sampling_rate(options.fs)

    # Data

    def data_dir(self, name: str) -> Path:
        """Return the data directory of a set, made by stage 1, or by stage 2."""
        return self.root / "data" / name

    @property
    def dump_dir(self) -> Path:
        """Directory of the formatted sets."""
        return self.root / self.options.dumpdir / "raw"

    def formatted_dir(self, name: str) -> Path:
        """Return where stage 3 writes a set: train and valid wait in org/ for stage 4."""
        is_test = name not in (self.train_set, self.valid_set)
        return self.dump_dir / name if is_test else self.dump_dir / "org" / name

    def dump_set_dir(self, name: str) -> Path:
        """Return the directory of a set that is ready for use."""
        return self.dump_dir / name

    @property
    def eval_sets(self) -> dict[str, Path]:
        """What is decoded and scored: name in reports -> data directory."""
        sets = {}
        if self.eval_valid_set:
            sets[f"org/{self.valid_set}"] = self.formatted_dir(self.valid_set)
        return sets | {name: self.dump_set_dir(name) for name in self.test_sets}

    @property
    def lm_train_text(self) -> Path:
        """Text of the training set, without empty lines and copies at other speeds."""
        return self.dump_dir / "lm_train.txt"

    # Tokens

    @property
    def token_dir(self) -> Path:
        """Directory of the token list."""
        options = self.options
        base = "token_list" if options.lang == "noinfo" else f"{options.lang}_token_list"
        is_bpe = options.token_type == "bpe"
        kind = f"bpe_{options.bpemode}{options.nbpe}" if is_bpe else options.token_type
        return self.root / "data" / base / kind

    @property
    def token_list(self) -> Path:
        """The token list, one token a line."""
        return self.token_dir / "tokens.txt"

    @property
    def bpe_model(self) -> Path | None:
        """The sentencepiece model; None where the unit is not BPE."""
        return self.token_dir / "bpe.model" if self.options.token_type == "bpe" else None

    @property
    def _lm_token_tag(self) -> str:
        options = self.options
        lang = "" if options.lang == "noinfo" else f"_{options.lang}"
        nbpe = options.nbpe if options.token_type == "bpe" else ""
        return f"{lang}_{options.token_type}{nbpe}"

    @property
    def _token_tag(self) -> str:
        return f"{self.options.feats_type}{self._lm_token_tag}"

    @property
    def nlsyms_file(self) -> Path | None:
        """File of non-linguistic symbols, one a line; None where there are none."""
        name = self.options.nlsyms_txt
        return None if name in ("none", "") else self.root / name

    # Language model

    @property
    def lm_stats_dir(self) -> Path:
        """Directory of the text of the language model, and of its statistics."""
        return self.root / self.options.expdir / f"lm_stats{self._lm_token_tag}"

    @property
    def lm_exp_dir(self) -> Path:
        """Directory of the language model."""
        options = self.options
        if options.lm_exp:
            return self.root / options.lm_exp
        config = Path(options.lm_config).stem if options.lm_config else "train"
        arguments = _as_tag(options.lm_args, "|=/")
        tag = options.lm_tag or f"{config}{self._lm_token_tag}{arguments}"
        return self.root / options.expdir / f"lm_{tag}"

    @property
    def lm_files(self) -> dict[str, Path]:
        """Files of the language model that decoding uses, by the names of ESPnet's options."""
        if not self.options.use_lm:
            return {}
        return {
            "lm_train_config": self.lm_exp_dir / "config.yaml",
            "lm_file": self.lm_exp_dir / self.options.inference_lm,
        }

    @property
    def ngram_exp_dir(self) -> Path:
        """Directory of the n-gram."""
        options = self.options
        return self.root / (options.ngram_exp or f"{options.expdir}/ngram")

    @property
    def _inference_ngram(self) -> str:
        return self.options.inference_ngram or f"{self.options.ngram_num}gram.bin"

    @property
    def ngram_files(self) -> dict[str, Path]:
        """File of the n-gram that decoding uses, by the name of ESPnet's option."""
        if not self.options.use_ngram:
            return {}
        return {"ngram_file": self.ngram_exp_dir / self._inference_ngram}

    @property
    def lm_config(self) -> Path | None:
        """The training configuration of the language model that is given."""
        return self.root / self.options.lm_config if self.options.lm_config else None

    # Experiment

    @property
    def stats_dir(self) -> Path:
        """Directory of the statistics of stage 10."""
        if self.options.asr_stats_dir:
            return self.root / self.options.asr_stats_dir
        return self.root / self.options.expdir / f"asr_stats_{self._token_tag}{self._speed_tag}"

    @property
    def feature_statistics(self) -> Path:
        """Mean and variance of the training set's features."""
        return self.stats_dir / "train/feats_stats.npz"

    @property
    def asr_tag(self) -> str:
        """Name of the experiment."""
        options = self.options
        if options.asr_tag:
            return options.asr_tag
        config = Path(options.asr_config).stem if options.asr_config else "train"
        attention = f"_{Path(options.attention).stem}" if options.attention else ""
        arguments = _as_tag(options.asr_args, "|=/")
        return f"{config}_{self._token_tag}{attention}{arguments}{self._speed_tag}"

    @property
    def exp_dir(self) -> Path:
        """Directory of the experiment."""
        if self.options.asr_exp:
            return self.root / self.options.asr_exp
        return self.root / self.options.expdir / f"asr_{self.asr_tag}"

    @property
    def model_file(self) -> Path:
        """The model to decode with."""
        return self.exp_dir / self.options.inference_asr_model

    @property
    def packed_model(self) -> Path:
        """The zip file of the model."""
        return self.exp_dir / f"{self.exp_dir.name}_{self.model_file.stem}.zip"

    @property
    def inference_tag(self) -> str:
        """Name of the decoding."""
        options = self.options
        if options.inference_tag:
            return options.inference_tag
        config = Path(options.inference_config).stem if options.inference_config else "inference"
        arguments = _as_tag(options.inference_args, "|=")
        lm = ""
        if options.use_lm:
            lm = f"_lm_{self.lm_exp_dir.name}_{_model_stem(options.inference_lm)}"
        if options.use_ngram:
            lm += f"_ngram_{self.ngram_exp_dir.name}_{_model_stem(self._inference_ngram)}"
        return f"{config}{arguments}{lm}_asr_model_{_model_stem(options.inference_asr_model)}"

    @property
    def inference_dir(self) -> Path:
        """Directory of the decoding."""
        return self.exp_dir / self.inference_tag

    # Configuration files

    @property
    def train_config(self) -> Path | None:
        """The training configuration that is given."""
        return self.root / self.options.asr_config if self.options.asr_config else None

    @property
    def attention_overlay(self) -> Path | None:
        """The file that `--attention` names: a file, the recipe's or the checkout's.

        Raises:
            UserError: there is none; names the overlays that exist.
        """
        name = self.options.attention
        if not name:
            return None
        if (self.root / name).is_file():
            return self.root / name
        places = [self.root / "conf/attention", self.root / "../../../conf/attention"]
        for place in places:
            if (place / f"{name}.yaml").is_file():
                return place / f"{name}.yaml"
        known = sorted({file.stem for place in places for file in place.glob("*.yaml")})
        raise UserError(
            f"--attention {name}: no such file, and no such name (known: {', '.join(known)})", 2
        )


def _model_stem(name: str) -> str:
    return re.sub(r"\.[^.]*$", "", name.replace("/", "_"))


def _as_tag(arguments: str, dropped: str) -> str:
    """Turn arguments into a part of a tag.

    Example:
        >>> _as_tag("--optim_conf lr=0.1 --max_epoch 3", "|=")
        '_optim_conflr0.1_max_epoch3'
    """
    return re.sub(f"[ {re.escape(dropped)}]", "", arguments.replace("--", "_"))


def used_options(options: SimpleNamespace, *names: str) -> Mapping[str, object]:
    """Return the named options, for a mark."""
    return {name: getattr(options, name) for name in names}
