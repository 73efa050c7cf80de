"""What can be decoded: by which device and precision, with which model, from which length on."""

import bisect
import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mtla_espnet.files import UserError
from mtla_espnet.inference.utterance import Utterance
from mtla_espnet.search.options import SearchOptions

# No encoder needs more samples of speech, frames or tokens.
_LONGEST_LEAST = 1 << 18


def usable_device(name: str) -> torch.device:
    """Return a device of torch.

    Raises:
        UserError: there is none of that name here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r} is unknown: say cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("CUDA is not available here: decode on the CPU")
    return device


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value of an option that it cannot have.

    Raises:
        UserError: names the option and its choices.
    """
    if value not in choices:
        raise UserError(f"{name} {value!r} is unknown: say {', '.join(choices)}")


def check_decodable(
    model: torch.nn.Module,
    ctc: torch.nn.Module | None,
    options: SearchOptions,
    train_config: str | os.PathLike,
) -> None:
    """Check that the search can decode a model.

    Args:
        model: ESPnet's, with `decoder` and `token_list`.
        ctc: its CTC layer over the tokens that are written; None: it has none.
        options: of the search.
        train_config: its `config.yaml`, for messages.

    Raises:
        UserError: its decoder scores no batches, it has no CTC that is asked for, or fewer
            tokens than the beam.
    """
    from espnet2.legacy.nets.scorer_interface import BatchScorerInterface

    decoder = getattr(model, "decoder", None)
    unusual = ("use_transducer_decoder", "st_use_transducer_decoder", "use_multidecoder")
    if any(getattr(model, name, False) for name in unusual) or not isinstance(
        decoder, BatchScorerInterface
    ):
        name = type(decoder).__name__
        raise UserError(f"{train_config}: its decoder ({name}) has no batched scores: use ESPnet")
    if options.ctc_weight and ctc is None:
        raise UserError(f"{train_config}: the model has no CTC: decode with ctc_weight 0")
    if options.beam_size > len(model.token_list):
        raise UserError(
            f"beam_size {options.beam_size} is more than the "
            f"{len(model.token_list)} tokens of the vocabulary"
        )


def least_encoded(
    encode: Callable[[list[Utterance]], tuple[Tensor, Tensor]], example: Utterance
) -> int:
    """Return the shortest input of which an encoder makes a frame, alone.

    Args:
        encode: utterances -> (B, T, d) and lengths (B,); it may raise what it likes.
        example: an utterance that holds nothing; its first input, time first, gets other lengths.
    """
    name, value = next(iter(example.items()))

    def takes(length: int) -> bool:
        silence = np.zeros((length, *value.shape[1:]), dtype=value.dtype)
        try:
            return bool(encode([example | {name: silence}])[1][0] > 0)
        except Exception:  # whatever its layers say of it
            return False

    return least_length(takes)


def least_length(takes: Callable[[int], bool]) -> int:
    """Return the shortest length that is taken, where all longer ones are taken too.

    Args:
        takes: tells whether an input of a length is taken.

    Returns:
        1 where not even a very long one is taken: then it is not the length.

    Example:
        >>> least_length(lambda length: length >= 41)
        41
    """
    if takes(1):
        return 1
    refused, taken = 1, 2
    while not takes(taken):
        refused, taken = taken, 2 * taken
        if taken > _LONGEST_LEAST:
            return 1
    return bisect.bisect_left(range(taken), True, lo=refused + 1, key=takes)
