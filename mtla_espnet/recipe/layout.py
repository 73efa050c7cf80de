"""Names and places: tags, directories and files of a recipe, as in ESPnet2's scripts."""

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.data.fairseq.config import FairseqConfig, read_fairseq_config
from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import sampling_rate, speed_factors
from mtla_espnet.recipe.speech_input import SpeechInput
from mtla_espnet.recipe.task import TASKS, TaskText
from mtla_espnet.recipe.texts import Text, TokenSet


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
        self.task = TASKS[options.task]
        self.root = Path(root)
        self.speed_factors = speed_factors(getattr(options, "speed_perturb_factors", ""))
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
        self.rate = sampling_rate(options.fs) if self.task.speech else None
        self.speech = None
        if self.task.speech:
            self.speech = SpeechInput(options.feats_type, options.audio_format, self.rate)

    def model_option(self, name: str) -> object:
        """Return an option that is named after the model: `config` is `--asr_config` in ASR."""
        return getattr(self.options, f"{self.task.model}_{name}")

    @property
    def model_splits(self) -> int:
        """Parts that the training set is split into; 1: it is not."""
        return max(1, getattr(self.options, f"num_splits_{self.task.model}"))

    # Data

    def data_dir(self, name: str) -> Path:
        """Return the data directory of a set, made by stage 1, or by stage 2."""
        return self.root / "data" / name

    @property
    def dump_dir(self) -> Path:
        """Directory of the formatted sets."""
        return self.root / self.options.dumpdir / self.feats_type

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
        """Text that the model shall write, without empty lines and copies at other speeds."""
        return self.dump_dir / "lm_train.txt"

    def text_of_training(self, table: str) -> dict[Path, int]:
        """Return a table of the training set as said once -> the stage that makes it.

        Copies at other speeds would say everything again: token lists and language models
        are the same with and without them.
        """
        if self.speed_factors:
            return {self.data_dir(self.original_train_set) / table: 1}
        return {self.formatted_dir(self.train_set) / table: 3}

    # Texts and tokens

    @functools.cached_property
    def texts(self) -> list[Text]:
        """The texts of each set; the first is what the model writes."""
        given = vars(self.options)
        found = []
        for text in self.task.texts:
            if text.only_if and not given[text.only_if]:
                continue
            table = text.table.format(**given)
            joint = found and given.get("token_joint")
            tokens = found[0].tokens if joint else self._token_set(text, table)
            found.append(Text(text.name, table, tokens, text))
        return found

    @property
    def tables(self) -> list[str]:
        """The tables of text that a set has, `text` first."""
        return list(dict.fromkeys(["text", *(text.table for text in self.texts)]))

    def _token_set(self, text: TaskText, table: str) -> TokenSet:
        options, side = vars(self.options), text.side
        base = f"{text.prefix}token_list" if text.words else "token_list"
        if self.options.lang != "noinfo":
            base = f"{self.options.lang}_{base}"
        token_type = "word" if text.words else options[f"{side}token_type"]
        downloaded = options.get("downloaded_tokens")
        if downloaded and text.name == self.task.texts[0].name:
            return TokenSet(self.root / downloaded, token_type, {}, {})
        chosen = {name: options[name] for name in ("oov", "blank", "sos_eos")}
        kind = token_type
        if token_type == "bpe":
            names = ("nbpe", "bpemode", "bpe_char_cover", "bpe_nlsyms")
            chosen |= {name: options[f"{side}{name}"] for name in names}
            kind = f"bpe_{chosen['bpemode']}{chosen['nbpe']}"
            written = text.name == self.task.texts[0].name
            if self.fairseq.vocabulary and (written or options.get("token_joint")):
                files = (self.fairseq.bpe_model, self.fairseq.vocabulary)
                directory = self.root / "data" / base / f"{side}bpe_fairseq"
                symbols = {name: options[name] for name in ("oov", "blank", "sos_eos")}
                return TokenSet(directory, token_type, symbols, dict.fromkeys(files, 0), files)
        given = options[f"{side}bpe_train_text"] if token_type == "bpe" else ""
        texts = {self.root / name: 0 for name in given.split()}
        if not texts:
            written = text.name == self.task.texts[0].name
            texts = {self.lm_train_text: 4} if written else self.text_of_training(table)
            if options.get("token_joint"):
                texts |= self.text_of_training(self.task.texts[1].table.format(**options))
        return TokenSet(self.root / "data" / base / f"{side}{kind}", token_type, chosen, texts)

    @property
    def tokens(self) -> TokenSet:
        """The tokens of what the model writes."""
        return self.texts[0].tokens

    @property
    def token_list(self) -> Path:
        """The token list of what the model writes."""
        return self.tokens.token_list

    @property
    def bpe_model(self) -> Path | None:
        """The sentencepiece model of what the model writes; None where the unit is not BPE."""
        return self.tokens.bpe_model

    @property
    def _lang(self) -> str:
        return "" if self.options.lang == "noinfo" else f"_{self.options.lang}"

    @property
    def _lm_token_tag(self) -> str:
        return f"{self._lang}_{self.tokens.tag}"

    @property
    def _token_tag(self) -> str:
        return f"{self.feats_type}{self._lm_token_tag}"

    @property
    def feats_type(self) -> str:
        """Kind of input, for tags; raw for text, as in ESPnet."""
        return getattr(self.options, "feats_type", "raw")

    @functools.cached_property
    def fairseq(self) -> FairseqConfig:
        """What applies of the `config.yaml` beside Fairseq's manifests.

        Raises:
            UserError: it is malformed.
        """
        path = self.fairseq_dir and self.fairseq_dir / "config.yaml"
        return read_fairseq_config(path) if path and path.exists() else FairseqConfig()

    @property
    def fairseq_dir(self) -> Path | None:
        """Directory of Fairseq's manifests; None: there are none."""
        name = getattr(self.options, "fairseq_dir", "")
        return self.root / name if name else None

    @property
    def nlsyms_file(self) -> Path | None:
        """File of non-linguistic symbols, one a line; None where there are none."""
        name = self.options.nlsyms_txt
        return None if name in ("none", "") else self.root / name

    # Language model

    @property
    def lm_stats_dir(self) -> Path:
        """Directory of the text of the language model, and of its statistics."""
        options = self.options
        return self.root / (
            options.lm_stats_dir or f"{options.expdir}/lm_stats{self._lm_token_tag}"
        )

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
        given = self.model_option("stats_dir")
        name = f"{self.task.model}_stats_{self._token_tag}{self._frontend_tag}{self._speed_tag}"
        return self.root / (given or f"{self.options.expdir}/{name}")

    @property
    def feature_statistics(self) -> Path:
        """Mean and variance of the training set's features."""
        return self.stats_dir / "train/feats_stats.npz"

    @property
    def normalization(self) -> dict[Path, int]:
        """File of statistics that features are normalised by -> its stage; or nothing."""
        if self.fairseq.global_cmvn:
            return {self.root / "data/fairseq_global_cmvn.npz": 1}
        chosen = getattr(self.options, "feats_normalize", "") == "global_mvn"
        return {self.feature_statistics: 10} if chosen and not self._fairseq_normalizes else {}

    @property
    def _fairseq_normalizes(self) -> bool:
        return "normalize" in self.fairseq.options

    @property
    def tag(self) -> str:
        """Name of the experiment."""
        options = self.options
        given, config = self.model_option("tag"), self.model_option("config")
        if given:
            return given
        name = Path(config).stem if config else "train"
        case = f"_{getattr(options, self.task.case)}" if self.task.case else ""
        size = self.tokens.options.get("nbpe", "")
        tokens = f"{self.feats_type}{self._lang}_{self.tokens.token_type}{case}{size}"
        attention = f"_{Path(options.attention).stem}" if options.attention else ""
        arguments = _as_tag(self.model_option("args"), "|=/")
        return f"{name}_{tokens}{self._frontend_tag}{attention}{arguments}{self._speed_tag}"

    @property
    def exp_dir(self) -> Path:
        """Directory of the experiment."""
        given = self.model_option("exp")
        return self.root / (given or f"{self.options.expdir}/{self.task.model}_{self.tag}")

    @property
    def _inference_model(self) -> str:
        return getattr(self.options, f"inference_{self.task.model}_model")

    @property
    def model_file(self) -> Path:
        """The model to decode with."""
        return self.exp_dir / self._inference_model

    @property
    def packed_model(self) -> Path:
        """The zip file of the model."""
        return self.exp_dir / f"{self.exp_dir.name}_{self.model_file.stem}.zip"

    @property
    def hub_dir(self) -> Path:
        """Directory of what is uploaded to the Hugging Face hub."""
        name = self.options.hf_repo.replace("/", "_")
        return self.root / self.options.expdir / f"hf_{name}"

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
        model = f"{self.task.model}_model_{_model_stem(self._inference_model)}"
        return f"{config}{arguments}{lm}_{model}"

    @property
    def inference_dir(self) -> Path:
        """Directory of the decoding."""
        return self.exp_dir / self.inference_tag

    # Configuration files

    @property
    def train_config(self) -> Path | None:
        """The training configuration that is given."""
        config = self.model_option("config")
        return self.root / config if config else None

    @property
    def attention_overlay(self) -> Path | None:
        """The file that `--attention` names: a file, the recipe's or the checkout's.

        Raises:
            UserError: there is none; names the overlays that exist.
        """
        return self._overlay("attention")

    @property
    def frontend_overlay(self) -> Path | None:
        """Likewise of `--frontend`."""
        return self._overlay("frontend")

    def _overlay(self, option: str) -> Path | None:
        name = getattr(self.options, option, "")
        if not name:
            return None
        if (self.root / name).is_file():
            return self.root / name
        places = [self.root / "conf" / option, self.root / "../../../conf" / option]
        for place in places:
            if (place / f"{name}.yaml").is_file():
                return place / f"{name}.yaml"
        known = sorted({file.stem for place in places for file in place.glob("*.yaml")})
        raise UserError(
            f"--{option} {name}: no such file, and no such name (known: {', '.join(known)})", 2
        )

    @property
    def _frontend_tag(self) -> str:
        name = getattr(self.options, "frontend", "")
        return f"_{Path(name).stem}" if name else ""


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
