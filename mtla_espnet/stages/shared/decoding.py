"""What a later use of a model needs, kept beside it: decoding configuration, maker of features."""

from pathlib import Path

from mtla_espnet.data.features.format import EXTRACTOR_FILE
from mtla_espnet.files import write_text
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.yaml_files import dump_yaml, load_yaml

# As `mtla_espnet.inference.decoding_config` reads them, which loads PyTorch.
_FILE, _FILES = "inference.yaml", ("lm_train_config", "lm_file", "ngram_file")


def kept_files(recipe: Recipe) -> list[Path]:
    """Return what is kept beside the model."""
    made = [EXTRACTOR_FILE] if _extractor(recipe) else []
    return [recipe.paths.exp_dir / name for name in (_FILE, *made)]


def keep_beside_model(recipe: Recipe) -> None:
    """Keep the decoding configuration, and how features are made, for every later use.

    Files are named as `config.yaml` names them: relative to the recipe's directory.
    """
    config = dict(recipe.inference_config)
    root = recipe.root
    for name in _FILES:
        path = Path(config.get(name, ""))
        if name in config and path.is_relative_to(root):
            config[name] = str(path.relative_to(root))
    _write(recipe.paths.exp_dir / _FILE, dump_yaml(config))
    extractor = _extractor(recipe)
    if extractor:
        _write(recipe.paths.exp_dir / EXTRACTOR_FILE, extractor.read_text(encoding="utf-8"))


def extractor_conf(recipe: Recipe) -> dict:
    """Return the options of the front end that made the features; empty where it is not known."""
    path = _extractor(recipe)
    return load_yaml(path).get("frontend_conf") or {} if path else {}


def _extractor(recipe: Recipe) -> Path | None:
    """Return the file that says how the features of the training set were made, if there is one."""
    path = recipe.sets.dump_set_dir(recipe.sets.train) / EXTRACTOR_FILE
    is_made = recipe.speech is not None and recipe.speech.is_features
    return path if is_made and path.exists() else None


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
