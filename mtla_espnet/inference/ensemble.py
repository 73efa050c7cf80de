"""The other models of an ensemble: as many as one likes, over the same tokens and inputs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtla_espnet.files import UserError
from mtla_espnet.inference.model_files import model_files

if TYPE_CHECKING:
    from mtla_espnet.inference.trained_model import TrainedModel

# Options of a search that the scores of a model depend on.
_SCORING = ("beam_size", "temperature", "ctc_weight")


def load_members(
    first: "TrainedModel", paths: Sequence[str | os.PathLike], **options
) -> list["TrainedModel"]:
    """Load the models that score beside a first one.

    Args:
        first: it says how they are searched.
        paths: directories of experiments or packs; files of parameters with their `config.yaml`
            beside them.
        **options: of the class: `device`, `dtype`, `prefix_cache`.

    Raises:
        UserError: one is not whole, or has other tokens, other inputs or, with CTC, another
            number of frames than the first one.
    """
    options |= {name: getattr(first.options, name) for name in _SCORING}
    members = []
    for path in map(Path, paths):
        if path.suffix == ".pth":
            member = type(first)(path.with_name("config.yaml"), path, **options)
        else:
            with model_files(path, first.task) as files:
                model = first.task.model
                names = [files[f"{model}_{name}"] for name in ("train_config", "model_file")]
                member = type(first)(*names, **options)
                member.load_beside(names[0])
        if list(member.model.token_list) != list(first.model.token_list):
            raise UserError(f"{path}: has other tokens than the first model of the ensemble")
        if member.input_form() != first.input_form():
            raise UserError(f"{path}: takes other inputs than the first model of the ensemble")
        if first.options.ctc_weight and _frames(member) != _frames(first):
            raise UserError(
                f"{path}: its encoder makes another number of frames than that of the first model "
                "of the ensemble, so that CTC has no average: decode with ctc_weight 0"
            )
        members.append(member)
    return members


def _frames(model: "TrainedModel") -> int:
    return int(model.encode([model.example()])[1][0])
