"""What a decode cost: `efficiency.json` of a set, and how those of shards are merged.

Its keys: `utterances`, `audio_s` and `tokens` that were decoded; `encoder_s`, `search_s`, of it
`search_decoder_s` (and other scorers of all tokens), `search_ctc_s` and `search_bookkeeping_s`;
`total_s` with reading the audio; `processor_s` that the processor worked in it, all threads
together; `rtf` = total_s / audio_s; `utterances_per_s`;
`peak_memory_bytes` of activations and cache, without the model, and `mean_memory_bytes`, the peak
of a batch averaged over utterances; `cache_bytes_peak` of positions
held, of it `cache_bytes_prefix_peak` of prefixes, as latents or materialised;
`cache_bytes_allocated` of buffers, `cache_bytes_per_position` over all layers; and how it was
decoded: `device`, `dtype`, `attention`, `down_rate`, `prefix_cache` (the option), `beam_size`,
`batch`. That of a set also says how many `utterances_from_interrupted_runs` there are: their
times are in the sums.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtla_espnet.files import UserError
from mtla_espnet.json_files import read_json

FILE = "efficiency.json"
FROM_INTERRUPTED = "utterances_from_interrupted_runs"
SEARCH_PARTS = ("search_decoder_s", "search_ctc_s", "search_bookkeeping_s")

# Amounts of work and time add up over shards; memory is what one process needs at most.
_SUMMED = (
    "utterances",
    "audio_s",
    "tokens",
    "encoder_s",
    "search_s",
    *SEARCH_PARTS,
    "total_s",
    "processor_s",
)
_RATIOS = ("rtf", "utterances_per_s")
_MEAN = ("mean_memory_bytes",)
_LARGEST = (
    "peak_memory_bytes",
    "cache_bytes_peak",
    "cache_bytes_prefix_peak",
    "cache_bytes_allocated",
)
_EQUAL = (
    "cache_bytes_per_position",
    "device",
    "dtype",
    "attention",
    "down_rate",
    "prefix_cache",
    "beam_size",
    "batch",
)
# What files of earlier decodes lack.
_LATER = dict.fromkeys(
    ("cache_bytes_prefix_peak", "prefix_cache", "processor_s", "mean_memory_bytes")
)
_BUSY = 1.3  # wall time for each second that the processor worked, where it worked for others too
KEYS = (*_SUMMED, *_RATIOS, *_LARGEST, *_MEAN, *_EQUAL)


def merge_efficiency(shards: Sequence[dict]) -> dict:
    """Merge the costs of the shards of a set.

    Args:
        shards: at least one; seconds, bytes, counts. A value is None where it could not be
            measured.

    Returns:
        Sums of times and amounts, maxima of memory, its mean over utterances; `rtf` (total_s /
        audio_s) and `utterances_per_s` follow from the sums.

    Raises:
        UserError: the shards were decoded in different ways.
    """
    shards = [_LATER | shard for shard in shards]
    for key in _EQUAL:
        values = {shard[key] for shard in shards}
        if len(values) > 1:
            found = ", ".join(sorted(map(str, values)))
            raise UserError(f"{FILE}: shards differ in {key!r} ({found}); decode the set again")
    merged: dict = {}
    for key in _SUMMED:
        values = [shard[key] for shard in shards]
        if None in values:
            merged[key] = None
            continue
        value = math.fsum(values)
        merged[key] = round(value, 6) if key.endswith("_s") else int(value)
    merged["rtf"] = _ratio(merged["total_s"], merged["audio_s"])
    merged["utterances_per_s"] = _ratio(merged["utterances"], merged["total_s"])
    for key in _LARGEST:
        measured = [shard[key] for shard in shards if shard[key] is not None]
        merged[key] = max(measured, default=None)
    for key in _MEAN:
        measured = [shard for shard in shards if shard[key] is not None]
        utterances = sum(shard["utterances"] for shard in measured)
        total = sum(shard[key] * shard["utterances"] for shard in measured)
        merged[key] = round(total / utterances) if utterances else None
    return merged | {key: shards[0][key] for key in _EQUAL}


def merge_runs(earlier: Sequence[dict], last: Sequence[dict]) -> dict:
    """Merge the costs of a set that was decoded in several runs, all but the last interrupted.

    A time is what the runs took until their last whole batch: work that an interruption lost
    is not in it.

    Args:
        earlier: costs of the jobs of the interrupted runs.
        last: those of the last run; empty where nothing was left to do.

    Returns:
        As `merge_efficiency`, and how many utterances are from the interrupted runs.
    """
    merged = merge_efficiency([*earlier, *last])
    return merged | {FROM_INTERRUPTED: sum(cost["utterances"] for cost in earlier)}


def read_efficiency(path: Path) -> dict:
    """Read the `efficiency.json` of a set or a shard.

    Raises:
        UserError: the file is missing, is not JSON, or lacks a key.
    """
    efficiency = _LATER | read_json(path)
    for key in KEYS:
        if key not in efficiency:
            raise UserError(f"{path}: no key {key!r}; decode the set again")
    return efficiency


def was_busy(efficiency: Mapping) -> bool:
    """Say whether the CPU of a decode had other work or waited: its wall time says little then.

    Args:
        efficiency: what `read_efficiency` returns.
    """
    worked_s = efficiency["processor_s"]
    if worked_s is None or efficiency["device"] != "cpu":
        return False
    return efficiency["total_s"] > _BUSY * worked_s


def rtf_log(efficiency: dict) -> str:
    """Write the lines of ESPnet's `calculate_rtf.log`."""
    utterances, total_s = efficiency["utterances"], efficiency["total_s"]
    latency_ms = 1000 * total_s / utterances if utterances else 0.0
    rtf = efficiency["rtf"] or 0.0
    return (
        f"Total audio duration: {efficiency['audio_s']:.3f} [sec]\n"
        f"Total decoding time: {total_s:.3f} [sec]\n"
        f"RTF: {rtf:.6f}\n"
        f"Latency: {latency_ms:.3f} [ms/sentence]\n"
    )


def _ratio(numerator: float, denominator: float) -> float | None:
    return round(numerator / denominator, 6) if denominator else None
