"""Options of a search by ESPnet's names, else by fairseq's, and what they can be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from mtla_espnet.files import UserError

# The least and the most that an option can be: beyond, a search would not end, or not fit anywhere.
_COUNTS = {
    "beam_size": (1, 10_000),
    "nbest": (1, 10_000),
    "no_repeat_ngram_size": (0, 1_000),
    "sampling_topk": (0, 1_000_000),
    "seed": (0, 2**63 - 1),
}
_NUMBERS = {
    "ctc_weight": (0, 1),
    "penalty": (-100, 100),
    "temperature": (0.01, 100),
    "pre_beam_ratio": (1, 1_000_000),
    "lenpen": (0, 10),
    "sampling_topp": (0, 1),
}
_WEIGHTS = {"lm_weight": (0, 100), "ngram_weight": (0, 100)}
_MOST_RATIO, _MOST_TOKENS = 20, 100_000


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search, by ESPnet's names, else by fairseq's.

    Attributes:
        beam_size: hypotheses an utterance; 1 is greedy.
        nbest: hypotheses returned, at most.
        ctc_weight: of the CTC prefix score; the decoder has the rest.
        penalty: added for each token (length bonus).
        temperature: divides the decoder's logits.
        maxlenratio: of encoder frames; 0: as many tokens as frames, with end detection;
            below 0: minus so many tokens.
        minlenratio: of encoder frames; below 0: minus so many tokens, or as many as the limit
            leaves.
        normalize_length: rank by score a token.
        lenpen: rank by score / tokens ** lenpen, the end among them; `normalize_length` is 1.
        no_repeat_ngram_size: so many tokens in a row do not come twice; 0: they may.
        prefix: ids of tokens that every hypothesis begins with.
        sampling: draw `beam_size` hypotheses by their probabilities.
        sampling_topk: among so many most probable tokens; 0: all.
        sampling_topp: among the fewest tokens that have so much probability; 0: all.
        seed: of the draws.
        pre_beam_ratio: with CTC, each hypothesis offers int(ratio * beam_size) tokens, those that
            the others like best, and the end.
    """

    beam_size: int = 20
    nbest: int = 1
    ctc_weight: float = 0.0
    penalty: float = 0.0
    temperature: float = 1.0
    maxlenratio: float = 0.0
    minlenratio: float = 0.0
    normalize_length: bool = False
    pre_beam_ratio: float = 1.5
    lenpen: float = 0.0
    no_repeat_ngram_size: int = 0
    prefix: tuple[int, ...] = ()
    sampling: bool = False
    sampling_topk: int = 0
    sampling_topp: float = 0.0
    seed: int = 0

    @property
    def length_exponent(self) -> float:
        """The exponent of the length that a score is divided by to rank it."""
        return 1.0 if self.normalize_length else float(self.lenpen)

    @property
    def needs_plain_search(self) -> bool:
        """Whether the search that is one CUDA graph a step lacks what is asked for."""
        return self.sampling or bool(self.prefix or self.no_repeat_ngram_size)

    def check(self) -> None:
        """Check that every option has a value that it can have.

        Raises:
            UserError: names the option.
        """
        for name, bounds in _COUNTS.items():
            check_number(name, getattr(self, name), *bounds, whole=True)
        for name, bounds in _NUMBERS.items():
            check_number(name, getattr(self, name), *bounds)
        for name in ("maxlenratio", "minlenratio"):
            value = getattr(self, name)
            check_number(name, value, -_MOST_TOKENS, _MOST_RATIO)
            if -1 < value < 0:
                raise UserError(f"{name} below 0 is minus a number of tokens, not {value}")
        for name in ("normalize_length", "sampling"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise UserError(f"{name} must be true or false, not {value!r}")
        if self.normalize_length and self.lenpen not in (0, 1):
            raise UserError(f"normalize_length is lenpen 1, not {self.lenpen}: leave one out")
        for name in ("sampling_topk", "sampling_topp"):
            if getattr(self, name) and not self.sampling:
                raise UserError(f"{name} needs sampling: true")
        if self.sampling and self.ctc_weight:
            raise UserError(
                f"sampling draws by the decoder: ctc_weight must be 0, not {self.ctc_weight}"
            )
        # 0 is no limit of its own: there are as many tokens as frames
        least, most = self.minlenratio, self.maxlenratio or 1
        if least * most > 0 and abs(least) > abs(most):
            raise UserError(
                f"minlenratio {least} is more than maxlenratio {self.maxlenratio} allows"
            )

    def length_limits(self, frames: int) -> tuple[int, int]:
        """Return the least and the most tokens of an utterance of so many frames."""
        least, most = self.minlenratio, self.maxlenratio
        if most == 0:
            limit = frames
        else:
            limit = -int(most) if most < 0 else max(1, int(most * frames))
        if least < 0:  # what reaches the limit counts, also where that is less
            return min(-int(least), limit - 1), limit
        return int(least * frames), limit


# What users may say; `prefix` follows from the text `forced_prefix`.
NAMES = frozenset(field.name for field in fields(SearchOptions)) - {"prefix"}


def check_options(config: Mapping[str, object]) -> None:
    """Check the numbers of a decoding configuration.

    Args:
        config: option -> value; what is no number of a search is not looked at, and None is a
            default.

    Raises:
        UserError: names the option.

    Example:
        >>> check_options({"beam_size": 5, "dtype": "float32"})
    """
    given = {name: value for name, value in config.items() if value is not None}
    SearchOptions(**{name: given[name] for name in given.keys() & NAMES}).check()
    if not isinstance(given.get("forced_prefix", ""), str):
        raise UserError(f"forced_prefix must be a text, not {given['forced_prefix']!r}")
    for name in given.keys() & _WEIGHTS.keys():
        check_number(name, given[name], *_WEIGHTS[name])


def check_number(name: str, value, least: float, most: float, whole: bool = False) -> None:
    """Check that an option is a number within bounds.

    Args:
        name: of the option.
        value: what was given for it.
        least: it can be.
        most: it can be.
        whole: it must be a whole number.

    Raises:
        UserError: it is not.

    Example:
        >>> check_number("beam_size", 5, 1, 10, whole=True)
    """
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"{name} must be a {'whole ' * whole}number, not {value!r}")
    if not least <= value <= most:
        raise UserError(f"{name} must be in {least} to {most}, not {value}")
