"""The smarthome corpus for espnet3: the data directories of egs2/smarthome/asr1."""

import argparse
from pathlib import Path

from espnet3.components.data import dataset_builder

from mtla_espnet.corpora.smarthome.prepare import add_arguments, prepare
from mtla_espnet.tasks.espnet3 import Dataset

__all__ = ["Dataset", "DatasetBuilder"]


class DatasetBuilder(dataset_builder.DatasetBuilder):
    """Makes the corpus, which eSpeak NG speaks; nothing is downloaded."""

    def is_source_prepared(self, **_) -> bool:
        """Tell that there is nothing to fetch."""
        return True

    def prepare_source(self, **_) -> None:
        """Fetch nothing."""

    def is_built(self, recipe_dir: str, **_) -> bool:
        """Tell whether the data directories are there."""
        return all((Path(recipe_dir) / "data" / name / "text").is_file() for name in _SETS)

    def build(self, recipe_dir: str, corpus: dict, **_) -> None:
        """Make the data directories.

        Args:
            recipe_dir: where `data` and `downloads` are.
            corpus: options of `mtla-espnet prepare smarthome`.
        """
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        places = {"output": f"{recipe_dir}/data", "downloads": f"{recipe_dir}/downloads"}
        words = [f"--{name}={value}" for name, value in (places | dict(corpus)).items()]
        prepare(parser.parse_args(words))


_SETS = ("train", "valid", "test")
