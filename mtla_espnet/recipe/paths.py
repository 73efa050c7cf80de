"""Where a recipe's models, statistics and decodings are, as in ESPnet2's scripts."""

from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.recipe.tags import Tags
from mtla_espnet.task.record import Task


class Paths:
    """Directories and files of the experiments.

    They are relative to the recipe's directory where `root` is ".", as in the files that
    ESPnet's recipes write, so that a recipe's directory can be moved.

    Args:
        options: what `parse_options` returns.
        root: the recipe's directory.
        task: of the recipe.
        tags: of the recipe.
    """

    def __init__(self, options: SimpleNamespace, root: Path, task: Task, tags: Tags):
        self._options, self._root, self._task, self._tags = options, root, task, tags
        self._exp = root / options.expdir

    def _of_model(self, name: str) -> str:
        return getattr(self._options, f"{self._task.model}_{name}")

    def _given(self, name: str) -> Path | None:
        return self._root / name if name else None

    # Configurations that are given; None: there is none

    @property
    def train_config(self) -> Path | None:
        """The training configuration."""
        return self._given(self._of_model("config"))

    @property
    def lm_config(self) -> Path | None:
        """The training configuration of the language model."""
        return self._given(self._options.lm_config)

    # Language models

    @property
    def lm_stats_dir(self) -> Path:
        """Directory of the text of the language model, and of its statistics."""
        given = self._given(self._options.lm_stats_dir)
        return given or self._exp / f"lm_stats{self._tags.lm_tokens}"

    @property
    def lm_exp_dir(self) -> Path:
        """Directory of the language model."""
        return self._given(self._options.lm_exp) or self._exp / f"lm_{self._tags.lm}"

    @property
    def lm_files(self) -> dict[str, Path]:
        """Files of the language model that decoding uses, by the names of ESPnet's options."""
        if not self._options.use_lm:
            return {}
        return {
            "lm_train_config": self.lm_exp_dir / "config.yaml",
            "lm_file": self.lm_exp_dir / self._options.inference_lm,
        }

    @property
    def ngram_exp_dir(self) -> Path:
        """Directory of the n-gram."""
        return self._given(self._options.ngram_exp) or self._exp / "ngram"

    @property
    def _inference_ngram(self) -> str:
        return self._options.inference_ngram or f"{self._options.ngram_num}gram.bin"

    @property
    def ngram_files(self) -> dict[str, Path]:
        """File of the n-gram that decoding uses, by the name of ESPnet's option."""
        if not self._options.use_ngram:
            return {}
        return {"ngram_file": self.ngram_exp_dir / self._inference_ngram}

    # Experiment

    @property
    def stats_dir(self) -> Path:
        """Directory of the statistics of stage 10."""
        return self._given(self._of_model("stats_dir")) or self._exp / self._tags.statistics

    @property
    def feature_statistics(self) -> Path:
        """Mean and variance of the training set's features."""
        return self.stats_dir / "train/feats_stats.npz"

    @property
    def exp_dir(self) -> Path:
        """Directory of the experiment."""
        given = self._given(self._of_model("exp"))
        return given or self._exp / f"{self._task.model}_{self._tags.experiment}"

    @property
    def model_file(self) -> Path:
        """The model to decode with, the first one of an ensemble."""
        return self.exp_dir / self._model_names[0]

    @property
    def ensemble(self) -> list[Path]:
        """The other models of an ensemble."""
        names = self._model_names[1:]
        return [(self._root if "/" in name else self.exp_dir) / name for name in names]

    @property
    def _model_names(self) -> list[str]:
        return getattr(self._options, f"inference_{self._task.model}_model").split() or [""]

    @property
    def packed_model(self) -> Path:
        """The zip file of the model."""
        return self.exp_dir / f"{self.exp_dir.name}_{self.model_file.stem}.zip"

    @property
    def hub_dir(self) -> Path:
        """Directory of what is uploaded to the Hugging Face hub."""
        return self._exp / f"hf_{self._options.hf_repo.replace('/', '_')}"

    @property
    def inference_dir(self) -> Path:
        """Directory of the decoding."""
        return self.exp_dir / self._tags.inference(
            self.lm_exp_dir.name,
            self._options.inference_lm,
            self.ngram_exp_dir.name,
            self._inference_ngram,
        )
