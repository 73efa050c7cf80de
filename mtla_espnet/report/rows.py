"""Experiments as rows that can be compared: who they are, what they reach, what they cost."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtla_espnet.json_files import read_json
from mtla_espnet.report.decodes import Decode, find_decodes
from mtla_espnet.score.efficiency import was_busy
from mtla_espnet.score.record import Measure
from mtla_espnet.score.registry import SCORES
from mtla_espnet.yaml_files import load_yaml

BASELINE = "mha"

_IDENTITY = ("experiment", "inference_tag", "test_set", "attention", "down_rate", "parameters")
_COSTS = (
    "train_s", "decode_s", "encoder_s", "search_s", "search_decoder_s", "search_ctc_s",
    "search_bookkeeping_s", "rtf", "utterances", "utterances_per_s", "audio_s", "tokens",
    "cache_bytes_per_position", "cache_bytes_peak", "cache_bytes_prefix_peak",
    "cache_bytes_allocated", "peak_memory_bytes", "device", "dtype", "prefix_cache", "beam_size",
    "batch",
)  # fmt: skip
_RATIOS = ("search_speedup", "cache_ratio", "memory_ratio")
# Of a training configuration: where it ran and what it told, not what was trained on what.
_NO_MATTER = (
    "config", "seed", "output_dir", "ngpu", "num_workers", "local_rank", "log_level",
    "log_interval", "multiprocessing_distributed", "num_att_plot", "print_config", "dry_run",
    "resume", "use_matplotlib", "use_tensorboard", "create_graph_in_tensorboard", "use_wandb",
    "version",
)  # fmt: skip
_NO_MATTER_PREFIXES = ("dist_", "wandb_")
_ATTENTION = ("attention", "attention_conf")  # of the decoder
# How a set was decoded: only equal ones have costs that can be compared.
_DECODED_ALIKE = ("device", "dtype", "beam_size", "batch")


def kind_label(attention: str, down_rate: int | None) -> str:
    """Name an attention kind with its down-sampling.

    Example:
        >>> kind_label("mtla", 2), kind_label("mha", 1)
        ('mtla s=2', 'mha')
    """
    return attention + (f" s={down_rate}" if (down_rate or 1) > 1 else "")


@dataclasses.dataclass(frozen=True)
class Row:
    """An experiment on a test set; a value is None where it was not measured.

    Args:
        identity: `experiment`, `inference_tag`, `test_set`, `attention`, `down_rate` and
            `parameters`.
        scores: name of a measure -> value; error rates and accuracies in per cent.
        cost: times in seconds, sizes in bytes, and how the set was decoded, by the names of
            `mtla_espnet.score.efficiency` (`decode_s` is its `total_s`), and `train_s`; ratios to
            the baseline, if there is one: `search_speedup`, `cache_ratio`, `memory_ratio`.
        configuration: the training configuration without its attention; None: there is none.
        is_busy: the CPU had other work: its times say little.
        warnings: what a reader must know, a sentence each.
    """

    identity: Mapping[str, object]
    scores: Mapping[str, float | None]
    cost: Mapping[str, object]
    configuration: Mapping | None = None
    is_busy: bool = False
    warnings: Sequence[str] = ()

    def __getitem__(self, name: str):
        """Return a value of the identity, the scores or the cost; None where there is none."""
        return next(
            (each[name] for each in (self.identity, self.scores, self.cost) if name in each), None
        )

    @property
    def kind(self) -> str:
        """The attention kind with its down-sampling, or the experiment where it has none."""
        if self["attention"] is None:
            return self["experiment"]
        return kind_label(self["attention"], self["down_rate"])

    def is_baseline_of(self, other: "Row") -> bool:
        """Say whether another row differs from this one in its attention alone."""
        names = ("inference_tag", "test_set", "utterances", *_DECODED_ALIKE)
        return (
            self["attention"] == BASELINE
            and self.configuration is not None
            and self.configuration == other.configuration
            and all(self[name] == other[name] for name in names)
        )


def csv_columns() -> list[str]:
    """Return the columns of `comparison.csv`."""
    measures = [measure.name for score in SCORES.values() for measure in score.measures]
    later = ("processor_s", "failed", "empty", "mean_memory_bytes")
    return [*_IDENTITY, *measures, *_COSTS, *_RATIOS, *later]


def gather(exp_dir: Path) -> list[Row]:
    """Read one row an experiment and decoded set.

    Returns:
        Rows by set; inside, the larger cache of a position comes first.

    Raises:
        UserError: a file of an experiment cannot be read.
    """
    rows = []
    for experiment in sorted(path for path in exp_dir.iterdir() if path.is_dir()):
        decodes = find_decodes(experiment)
        if decodes:
            training = experiment / "training.json"
            cost = read_json(training) if training.exists() else {}
            configuration = _configuration(experiment / "config.yaml")
            rows += [_row(experiment.name, cost, configuration, decode) for decode in decodes]
    rows = [_with_ratios(row, _baseline(row, rows)) for row in rows]
    return sorted(
        rows,
        key=lambda row: (
            row["inference_tag"],
            row["test_set"],
            -(row["cache_bytes_per_position"] or 0),
            row["experiment"],
        ),
    )


def judged_by(rows: Sequence[Row]) -> tuple[tuple[Measure, ...], str]:
    """Return the measures of quality of some rows, the most important first, and their note.

    It is the last score of the registry that a row has a value of.
    """
    for score in reversed(SCORES.values()):
        there = {
            measure.name
            for measure in score.measures
            if any(row[measure.name] is not None for row in rows)
        }
        shown = tuple(
            measure
            for measure in score.measures
            if measure.heading and measure.name in there and measure.instead_of not in there
        )
        if shown:
            return shown, score.note
    return (), ""


def _configuration(path: Path) -> dict | None:
    """Read what was trained on what, without the attention of the decoder."""
    if not path.exists():
        return None
    config = {
        key: value
        for key, value in load_yaml(path).items()
        if key not in _NO_MATTER and not key.startswith(_NO_MATTER_PREFIXES)
    }
    decoder = config.get("decoder_conf") or {}
    kept = {key: value for key, value in decoder.items() if key not in _ATTENTION}
    return config | {"decoder_conf": kept}


def _row(experiment: str, training: dict, configuration: dict | None, decode: Decode) -> Row:
    cost = decode.efficiency or {}
    identity = (
        experiment,
        decode.inference_tag,
        decode.test_set,
        cost.get("attention"),
        cost.get("down_rate"),
        training.get("parameters"),
    )
    scores: dict[str, float | None] = {}
    for result in decode.results.values():
        scores |= result.values
    return Row(
        identity=dict(zip(_IDENTITY, identity, strict=True)),
        scores=scores,
        cost=cost
        | {"train_s": training.get("train_s"), "decode_s": cost.get("total_s")}
        | {"utterances": decode.utterances, "failed": decode.failed}
        | {"empty": decode.empty if decode.hypotheses else None},
        configuration=configuration,
        is_busy=bool(cost) and was_busy(cost),
        warnings=decode.warnings,
    )


def _baseline(row: Row, rows: Sequence[Row]) -> Row | None:
    """Return the row to compare with: of several, that whose experiment's name begins most alike.

    They differ in what does not matter, as in the seed.
    """
    return max(
        (other for other in rows if other.is_baseline_of(row)),
        key=lambda other: len(os.path.commonprefix([row["experiment"], other["experiment"]])),
        default=None,
    )


def _with_ratios(row: Row, baseline: Row | None) -> Row:
    if baseline is None:
        return row
    ratios = {
        "search_speedup": _ratio(baseline["search_s"], row["search_s"]),
        "cache_ratio": _ratio(row["cache_bytes_peak"], baseline["cache_bytes_peak"]),
        "memory_ratio": _ratio(row["peak_memory_bytes"], baseline["peak_memory_bytes"]),
    }
    is_busy = row.is_busy or baseline.is_busy
    return dataclasses.replace(row, cost={**row.cost, **ratios, "speedup_is_busy": is_busy})


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or not denominator else numerator / denominator
