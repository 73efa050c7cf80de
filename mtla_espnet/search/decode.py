"""Decode a shard of a set: the body of a recipe's stage 12."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import tqdm

from mtla_espnet.data.audio import read_audio
from mtla_espnet.data.tables import read_table, write_table
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.files import UserError, write_json
from mtla_espnet.search.meter import Cost, measure
from mtla_espnet.search.speech2text import Recognition, Recognizer


def decode(
    *,
    task: str,
    train_config: Path,
    model_file: Path,
    inference_config: Mapping,
    data_dir: Path,
    keys: Sequence[str] | None,
    output_dir: Path,
    batch_size: int,
    ngpu: int,
    token_type: str | None,
    bpemodel: str | None,
    progress: bool,
) -> dict:
    """Decode utterances of a formatted data directory.

    Writes `1best_recog/{text,token,token_int,score}` and then `efficiency.json` under
    `output_dir`. Batches hold utterances of similar length; what is recognised does not
    depend on them.

    Args:
        task: "asr"; others have no decoding yet.
        train_config: the `config.yaml` that training wrote.
        model_file: the model.
        inference_config: arguments of ESPnet's `Speech2Text`, such as `beam_size`.
        data_dir: with `wav.scp` and `utt2num_samples`, as stage 3 writes it.
        keys: ids to decode; None: all.
        output_dir: where to write.
        batch_size: utterances decoded together.
        ngpu: 0: CPU; 1: CUDA.
        token_type: bpe, char or word; None: as trained.
        bpemodel: sentencepiece model; None: as trained.
        progress: show a bar on a terminal. The log has a line now and then anyway.

    Returns:
        What `efficiency.json` holds: `utterances`, `audio_s`, `tokens`, the times and sizes of
        `Cost`, `rtf` (total_s / audio_s), `utterances_per_s`, `cache_bytes_per_position`,
        `device`, `dtype`, `attention`, `down_rate`, `beam_size`, `batch`.

    Raises:
        UserError: an input is missing or wrong; names the file, the id or the option.
    """
    if task != "asr":
        raise UserError(f"decoding of task {task!r} is not supported yet (only asr)")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    recordings = read_table(data_dir / "wav.scp")
    num_samples = read_table(data_dir / "utt2num_samples")
    chosen = list(recordings) if keys is None else list(keys)
    if not chosen:
        raise UserError(f"{data_dir / 'wav.scp'}: no utterance to decode")
    for key in chosen:
        for name, table in (("wav.scp", recordings), ("utt2num_samples", num_samples)):
            if key not in table:
                raise UserError(f"{data_dir / name}: no line for {key!r}")
    recognizer = Recognizer(
        train_config,
        model_file,
        inference_config,
        batch_size=batch_size,
        device="cuda" if ngpu else "cpu",
        token_type=token_type,
        bpemodel=bpemodel,
    )
    # The longest come first: what does not fit into memory shows at once.
    chosen.sort(key=lambda key: (-int(num_samples[key]), key))
    batches = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
    found: dict[str, Recognition] = {}

    def recognize(batch: list[str]) -> list[Recognition]:
        return recognizer({key: _read(key, recordings[key], recognizer.rate_hz) for key in batch})

    recognize(chosen[-1:])  # a warm-up: see `measure`
    with measure(recognizer.model, recognizer.search, recognizer.device) as cost:
        for batch in _reported(batches, len(chosen), progress):
            found |= zip(batch, recognize(batch), strict=True)

    audio_s = sum(int(num_samples[key]) for key in chosen) / recognizer.rate_hz
    summary = _summary(cost, found, audio_s) | {
        **_describe(recognizer),
        "beam_size": recognizer.search.beam_size,
        "batch": batch_size,
    }
    tables = {
        "text": {key: best.text for key, best in found.items()},
        "token": {key: " ".join(best.token) for key, best in found.items()},
        "token_int": {key: " ".join(map(str, best.token_int)) for key, best in found.items()},
        "score": {key: f"{best.score:.4f}" for key, best in found.items()},
    }
    for name, table in tables.items():
        write_table(output_dir / "1best_recog" / name, table)
    write_json(output_dir / "efficiency.json", summary)
    return summary


def _read(key: str, path: str, rate_hz: int) -> np.ndarray:
    try:
        samples, found_hz = read_audio(path)
    except UserError as error:
        raise UserError(f"utterance {key!r}: {error}") from None
    if found_hz != rate_hz:
        raise UserError(
            f"utterance {key!r}: {path}: has {found_hz} Hz, the model takes {rate_hz} Hz "
            "(give the same --fs as in training)"
        )
    return samples


def _reported(
    batches: Sequence[list[str]], n_utterances: int, progress: bool
) -> Iterator[list[str]]:
    """Yield the batches, and say how far it is."""
    done = 0
    step = max(1, n_utterances // 10)
    with tqdm.tqdm(
        total=n_utterances, desc="decode", unit="utt", disable=None if progress else True
    ) as bar:
        for batch in batches:
            yield batch
            before, done = done, done + len(batch)
            bar.update(len(batch))
            if done // step > before // step or done == n_utterances:
                logging.info(f"decoded {done} of {n_utterances} utterances")


def _summary(cost: Cost, found: Mapping[str, Recognition], audio_s: float) -> dict:
    return {
        "utterances": len(found),
        "audio_s": round(audio_s, 6),
        "tokens": sum(len(best.token_int) for best in found.values()),
        "encoder_s": round(cost.encoder_s, 6),
        "search_s": round(cost.search_s, 6),
        "total_s": round(cost.total_s, 6),
        "rtf": round(cost.total_s / audio_s, 6),
        "utterances_per_s": round(len(found) / cost.total_s, 6),
        "peak_memory_bytes": cost.peak_memory_bytes,
        "cache_bytes_peak": cost.cache_bytes_peak,
        "cache_bytes_allocated": cost.cache_bytes_allocated,
    }


def _describe(recognizer: Recognizer) -> dict:
    """Say what decoded: sizes and kind are None for a decoder that is not ours."""
    decoder, dtype = recognizer.model.decoder, recognizer.speech2text.dtype
    ours = isinstance(decoder, DecoderOnly)
    device = recognizer.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    per_position = decoder.cache_bytes_per_position(getattr(torch, dtype)) if ours else None
    return {
        "cache_bytes_per_position": per_position,
        "device": name,
        "dtype": dtype,
        "attention": decoder.attention if ours else None,
        "down_rate": decoder.down_rate if ours else None,
    }
