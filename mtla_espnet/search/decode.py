"""Decode a shard of a set: the body of a recipe's stage 12."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import tqdm

from mtla_espnet.data.audio import read_audio
from mtla_espnet.data.tables import read_table, write_table
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.files import UserError, write_json
from mtla_espnet.search.batching import in_batches
from mtla_espnet.search.journal import Journal, Rows
from mtla_espnet.search.meter import Cost, Meter
from mtla_espnet.search.speech2text import DECODING_OPTIONS, Result, Speech2Text

_WARM_UP_S = 4.0


def decode(
    *,
    task: str,
    train_config: Path,
    model_file: Path,
    token_list: Path | None,
    inference_config: Mapping,
    data_dir: Path,
    keys: Sequence[str] | None,
    output_dir: Path,
    batch_size: int,
    max_memory_bytes: int | None,
    ngpu: int,
    progress: bool,
    known: Mapping[str, Rows] | None = None,
    journal: Journal | None = None,
) -> tuple[dict | None, dict[str, str]]:
    """Decode utterances of a formatted data directory.

    Writes `1best_recog/{text,token,token_int,score}` (and 2best_recog to `nbest`) and then
    `efficiency.json` under `output_dir`. Batches hold utterances of similar length; what is
    recognised does not depend on them. An utterance whose audio cannot be read, or that does
    not fit into memory, is left out; the others are decoded.

    Args:
        task: "asr"; others have no decoding yet.
        train_config: the `config.yaml` that training wrote.
        model_file: the model.
        token_list: the tokens that the model must have, one a line; None: any.
        inference_config: `DECODING_OPTIONS`, such as `beam_size`.
        data_dir: with `wav.scp` and `utt2num_samples`, as stage 3 writes it.
        keys: ids to decode; None: all.
        output_dir: where to write.
        batch_size: utterances decoded together, at most.
        max_memory_bytes: that a batch may take on a CPU above what the model takes, as far as
            can be told before; None: any.
        ngpu: 0: CPU; 1: CUDA.
        progress: show a bar on a terminal. The log has a line now and then anyway.
        known: id -> what an earlier run found; these are not decoded again, and do not count
            in `efficiency.json`.
        journal: where each batch is noted when it is decoded.

    Returns:
        What `efficiency.json` holds (see `mtla_espnet.score.efficiency`), None where all is
        known and nothing was decoded, and id -> reason of the utterances that were left out.

    Raises:
        UserError: an input is missing or wrong; names the file, the id or the option.
    """
    if task != "asr":
        raise UserError(f"decoding of task {task!r} is not supported yet (only asr)")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    for key in inference_config:
        if key not in DECODING_OPTIONS:
            known = ", ".join(sorted(DECODING_OPTIONS))
            raise UserError(f"decoding option {key!r} is not known here (known: {known})")
    recordings, lengths = _read_lengths(data_dir, keys)
    found: dict[str, Rows] = {key: known[key] for key in lengths if key in (known or {})}
    for key in found:
        del lengths[key]
    if not lengths:
        _write_tables(output_dir, found)
        return None, {}
    if found:
        logging.info(f"{len(found)} utterances were decoded by an earlier run")
    device = "cuda" if ngpu else "cpu"
    speech2text = Speech2Text(train_config, model_file, device=device, **inference_config)
    if token_list is not None:
        _check_tokens(token_list, train_config, speech2text.model.token_list)
    described = _describe(speech2text) | {
        "beam_size": speech2text.options.beam_size,
        "batch": batch_size,
    }
    meter = Meter(speech2text.device)
    decoded: dict[str, Rows] = {}
    failed: dict[str, str] = {}

    def recognize(batch: list[str]) -> dict[str, list[Result]]:
        waves = {}
        for key in batch:
            try:
                waves[key] = _read(recordings[key], speech2text.rate_hz)
            except UserError as error:
                failed[key] = str(error)
        results = speech2text.batch_decode(list(waves.values()), meter) if waves else []
        return dict(zip(waves, results, strict=True))

    def summary() -> dict:
        audio_s = sum(lengths[key] for key in decoded) / speech2text.rate_hz
        return _summary(meter.cost, decoded, audio_s) | described

    most = _affordable_samples(speech2text, max_memory_bytes)
    with _Progress(len(lengths), progress) as advance, meter.whole():
        for batch, results in in_batches(lengths, batch_size, recognize, most):
            if results is None:
                failed[batch[0]] = "does not fit into memory, even alone"
            else:
                rows = {key: _rows(key, hypotheses) for key, hypotheses in results.items()}
                decoded |= rows
                if journal:
                    meter.until_now()
                    journal.add(rows, summary())
            advance(len(batch))
            meter.between_batches()

    for key in sorted(failed):
        logging.warning(f"{key}: left out: {failed[key]}")
    _write_tables(output_dir, found | decoded)
    write_json(output_dir / "efficiency.json", summary())
    return summary(), failed


def _affordable_samples(speech2text: Speech2Text, max_memory_bytes: int | None) -> float:
    """Return how many samples, with padding, a batch may have on a CPU.

    Linux promises more memory than there is and kills who uses it, so nothing tells that a
    batch is too large: what some seconds of noise take is scaled up. It is a warm-up too, see
    `Meter.whole`.
    """
    noise = np.random.default_rng(0).normal(0, 0.1, round(_WARM_UP_S * speech2text.rate_hz))
    speech2text.batch_decode([noise])
    meter = Meter(speech2text.device)
    with meter.whole() as cost:
        speech2text.batch_decode([noise])
    if speech2text.device.type != "cpu" or not max_memory_bytes or not cost.peak_memory_bytes:
        return math.inf
    return max_memory_bytes / (cost.peak_memory_bytes / len(noise))


def _read_lengths(
    data_dir: Path, keys: Sequence[str] | None
) -> tuple[dict[str, str], dict[str, int]]:
    """Return the recording and the number of samples of each utterance."""
    recordings = read_table(data_dir / "wav.scp")
    samples = read_table(data_dir / "utt2num_samples")
    chosen = list(recordings) if keys is None else list(keys)
    if not chosen:
        raise UserError(f"{data_dir / 'wav.scp'}: no utterance to decode")
    lengths = {}
    for key in chosen:
        for name, table in (("wav.scp", recordings), ("utt2num_samples", samples)):
            if key not in table:
                raise UserError(f"{data_dir / name}: no line for {key!r}")
        if not samples[key].isdigit():
            raise UserError(
                f"{data_dir / 'utt2num_samples'}: {key!r} has {samples[key]!r}, not a number"
            )
        lengths[key] = int(samples[key])
    return recordings, lengths


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


def _read(path: str, rate_hz: int) -> np.ndarray:
    samples, found_hz = read_audio(path)
    if not len(samples):
        raise UserError(f"{path}: has no samples")
    if found_hz != rate_hz:
        raise UserError(
            f"{path}: has {found_hz} Hz, the model takes {rate_hz} Hz "
            "(give the same --fs as in training)"
        )
    return samples


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
        "rtf": round(cost.total_s / audio_s, 6) if audio_s else None,
        "utterances_per_s": round(len(found) / cost.total_s, 6),
        "peak_memory_bytes": cost.peak_memory_bytes,
        "cache_bytes_peak": cost.cache_bytes_peak,
        "cache_bytes_allocated": cost.cache_bytes_allocated,
    }


def _describe(speech2text: Speech2Text) -> dict:
    """Say what decoded: sizes and kind are None for a decoder that is not ours."""
    decoder, dtype, device = speech2text.model.decoder, speech2text.dtype, speech2text.device
    ours = isinstance(decoder, DecoderOnly)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    per_position = decoder.cache_bytes_per_position(getattr(torch, dtype)) if ours else None
    return {
        "cache_bytes_per_position": per_position,
        "device": name,
        "dtype": dtype,
        "attention": decoder.attention if ours else None,
        "down_rate": decoder.down_rate if ours else None,
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
