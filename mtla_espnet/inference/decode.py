"""Decode a shard of a set: the body of a recipe's stage 12."""

import collections
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import tqdm

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.files import UserError
from mtla_espnet.inference.ahead import ReadAhead
from mtla_espnet.inference.eval_set import eval_set
from mtla_espnet.inference.journal import Journal, Rows
from mtla_espnet.inference.meter import Cost, Meter
from mtla_espnet.inference.models import model_class
from mtla_espnet.inference.trained_model import DECODING_OPTIONS, TrainedModel
from mtla_espnet.inference.utterance import Result, Utterance, length_of
from mtla_espnet.json_files import write_json
from mtla_espnet.search.batching import in_batches

_KILLED = "two runs were killed while it was decoded alone (out of memory?)"


def decode(
    *,
    task: str,
    train_config: Path,
    model_file: Path,
    token_list: Path | None,
    ensemble: Sequence[Path] = (),
    inference_config: Mapping,
    data_dir: Path,
    keys: Sequence[str] | None,
    output_dir: Path,
    batch_size: int,
    batch_length: int = 0,
    max_memory_bytes: int | None,
    ngpu: int,
    progress: bool,
    known: Mapping[str, Rows] | None = None,
    journal: Journal | None = None,
    killed: Sequence[Sequence[str]] = (),
) -> tuple[dict | None, dict[str, str]]:
    """Decode utterances of a formatted data directory.

    Writes `1best_recog/{text,token,token_int,score}` (and 2best_recog to `nbest`) and then
    `efficiency.json` under `output_dir`. Batches hold utterances of similar length; what is
    recognised does not depend on them. An utterance that cannot be read, that the model cannot
    take or that does not fit into memory is left out; the others are decoded.

    Args:
        task: name of the model's: asr, st, slu or sum.
        train_config: the `config.yaml` that training wrote.
        model_file: the model.
        ensemble: other models, as `TrainedModel` takes them.
        token_list: the tokens that the model must have, one a line; None: any.
        inference_config: `DECODING_OPTIONS`, such as `beam_size`.
        data_dir: as stage 3 writes it: `wav.scp`, `feats.scp` or `src_text`, and lengths.
        keys: ids to decode; None: all.
        output_dir: where to write.
        batch_size: utterances decoded together, at most.
        batch_length: length of a batch with its padding, at most, in samples of speech, frames of
            features or tokens of text (an utterance that is longer is decoded alone); 0: any.
        max_memory_bytes: that a batch may take on a CPU above what the model takes, as far as
            can be told before; None: any.
        ngpu: 0: CPU; 1: CUDA.
        progress: show a bar on a terminal. The log has a line now and then anyway.
        known: id -> what an earlier run found; these are not decoded again, and do not count
            in `efficiency.json`.
        journal: where each batch is noted when it begins and when it is decoded.
        killed: batches in which earlier runs were killed: there are half as many utterances in
            a batch now, and one that was alone in two of them is left out.

    Returns:
        What `efficiency.json` holds: times, memory and cache of the decode; None where all is
        known and nothing was decoded, and id -> reason of the utterances that were left out.

    Raises:
        UserError: an input is missing or wrong; names the file, the id or the option.
    """
    kind = model_class(task)
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    for key in inference_config:
        if key not in DECODING_OPTIONS:
            legal = ", ".join(sorted(DECODING_OPTIONS))
            raise UserError(f"decoding option {key!r} is not known here (known: {legal})")
    data = eval_set(data_dir, keys, kind)
    found: dict[str, Rows] = {key: known[key] for key in data.keys if key in (known or {})}
    alone = collections.Counter(batch[0] for batch in killed if len(batch) == 1)
    failed = {key: _KILLED for key in data.keys if alone[key] > 1}
    waiting = [key for key in data.keys if key not in found and key not in failed]
    if not waiting:
        _write_tables(output_dir, found)
        return None, failed
    if found:
        logging.info(f"{len(found)} utterances were decoded by an earlier run")
    device = "cuda" if ngpu else "cpu"
    given = {"ensemble": ensemble, **inference_config}
    model = kind(train_config, model_file, device=device, **given)
    if token_list is not None:
        _check_tokens(token_list, train_config, model.model.token_list)
    described = _describe(model) | {"beam_size": model.options.beam_size, "batch": batch_size}
    lengths = data.lengths(model, waiting)
    meter = Meter(model.device)
    decoded: dict[str, Rows] = {}

    # where a run was killed, the one batch that the journal names is all that is worked on
    reading = ReadAhead(lambda key: data.read(key, model), lengths, ahead=not killed)

    def recognize(batch: list[str]) -> dict[str, list[Result]]:
        if journal:
            journal.begin(batch)
        inputs: dict[str, Utterance] = {}
        for key, value in reading(batch):
            if isinstance(value, UserError):
                failed[key] = str(value)
            else:
                inputs[key] = value
        outcomes = model.decode_prepared(list(inputs.values()), meter)
        results = {}
        for key, outcome in zip(inputs, outcomes, strict=True):
            if isinstance(outcome, UserError):
                failed[key] = str(outcome)
            else:
                results[key] = outcome
        return results

    def summary() -> dict:
        return _summary(meter.cost, decoded, data.audio_s(model, decoded)) | described

    most = _affordable_length(model, max_memory_bytes)
    for batch in killed:
        if 1 < len(batch) <= 2 * batch_size:
            batch_size = len(batch) // 2
            logging.warning(f"a run was killed in the batch of {' '.join(batch)}: half as many now")
    with reading, _Progress(len(lengths), progress) as advance, meter.whole():
        for batch, results in in_batches(lengths, batch_size, recognize, most, batch_length):
            meter.end_batch(len(results or ()))
            if results is None:
                failed[batch[0]] = "does not fit into memory, even alone"
            else:
                rows = {key: _rows(key, hypotheses) for key, hypotheses in results.items()}
                decoded |= rows
                if journal:
                    meter.until_now()
                    journal.add(rows, summary())
            advance(len(batch))

    for key in sorted(failed):
        logging.warning(f"{key}: left out: {failed[key]}")
    _write_tables(output_dir, found | decoded)
    write_json(output_dir / "efficiency.json", summary())
    return summary(), failed


def _affordable_length(model: TrainedModel, max_memory_bytes: int | None) -> float:
    """Return how long, with padding, a batch may be in total on a CPU, in the input's unit.

    Linux promises more memory than there is and kills who uses it, so nothing tells that a
    batch is too large: what an example takes is scaled up. It is a warm-up too, see
    `Meter.whole`.
    """
    example = model.example()
    model.decode_prepared([example])
    meter = Meter(model.device)
    with meter.whole() as cost:
        model.decode_prepared([example])
    if model.device.type != "cpu" or not max_memory_bytes or not cost.peak_memory_bytes:
        return math.inf
    return max_memory_bytes / (cost.peak_memory_bytes / length_of(example))


def _check_tokens(path: Path, train_config: Path, tokens: Sequence[str]) -> None:
    try:
        listed = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if listed != list(tokens):
        raise UserError(
            f"{train_config}: the model was trained with another token list than {path}: "
            "train it again (--stage 10), or give the options of its training"
        )


class _Progress:
    """Says how far it is: a bar on a terminal, a line a tenth in the log."""

    def __init__(self, total: int, shown: bool):
        self._total, self._done = total, 0
        hidden = None if shown else True
        self._bar = tqdm.tqdm(total=total, desc="decode", unit="utt", disable=hidden)

    def __enter__(self):
        return self._advance

    def __exit__(self, *exception):
        self._bar.close()

    def _advance(self, count: int) -> None:
        step = max(1, self._total // 10)
        before, self._done = self._done, self._done + count
        self._bar.update(count)
        if self._done // step > before // step or self._done == self._total:
            logging.info(f"decoded {self._done} of {self._total} utterances")


def _summary(cost: Cost, found: Mapping[str, Rows], audio_s: float) -> dict:
    other_s = max(0.0, cost.search_s - cost.decoder_s - cost.ctc_s)
    return {
        "utterances": len(found),
        "audio_s": round(audio_s, 6),
        "tokens": sum(len(rows[0]["token_int"].split()) for rows in found.values()),
        "encoder_s": round(cost.encoder_s, 6),
        "search_s": round(cost.search_s, 6),
        "search_decoder_s": round(cost.decoder_s, 6),
        "search_ctc_s": round(cost.ctc_s, 6),
        "search_bookkeeping_s": round(other_s, 6),
        "total_s": round(cost.total_s, 6),
        "processor_s": round(cost.processor_s, 6),
        "rtf": round(cost.total_s / audio_s, 6) if audio_s else None,
        "utterances_per_s": round(len(found) / cost.total_s, 6),
        "peak_memory_bytes": cost.peak_memory_bytes,
        "mean_memory_bytes": cost.mean_memory_bytes,
        "cache_bytes_peak": cost.cache_bytes_peak,
        "cache_bytes_prefix_peak": cost.cache_bytes_prefix_peak,
        "cache_bytes_allocated": cost.cache_bytes_allocated,
    }


def _describe(model: TrainedModel) -> dict:
    """Say what decoded: sizes and kind are None for a decoder that is not ours."""
    decoder, dtype, device = model.model.decoder, model.dtype, model.device
    ours = isinstance(decoder, DecoderOnly)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    per_position = decoder.cache_bytes_per_position(getattr(torch, dtype)) if ours else None
    return {
        "cache_bytes_per_position": per_position,
        "device": name,
        "dtype": dtype,
        "attention": decoder.attention if ours else None,
        "down_rate": decoder.down_rate if ours else None,
        "prefix_cache": model.prefix_cache if ours else None,
    }


def _rows(key: str, results: list[Result]) -> Rows:
    """Turn hypotheses into what the tables hold; where there is none, one is empty."""
    if not results:
        logging.warning(f"{key}: nothing was recognised")
        return [{"text": "", "token": "", "token_int": "", "score": f"{-math.inf:.4f}"}]
    return [
        {
            "text": text or "",
            "token": " ".join(token),
            "token_int": " ".join(map(str, token_int)),
            "score": f"{hypothesis.score:.4f}",
        }
        for text, token, token_int, hypothesis in results
    ]


def _write_tables(output_dir: Path, found: Mapping[str, Rows]) -> None:
    """Write the tables of each rank. The first has every utterance, also without a hypothesis."""
    for rank in range(max(map(len, found.values()), default=1)):
        for name in ("text", "token", "token_int", "score"):
            table = {key: rows[rank][name] for key, rows in found.items() if rank < len(rows)}
            write_table(output_dir / f"{rank + 1}best_recog" / name, table)
