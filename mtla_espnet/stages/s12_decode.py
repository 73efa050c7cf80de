"""Stage 12: decode the test sets."""

import os
import shutil
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError, write_text
from mtla_espnet.jobs.devices import devices_of, visible_devices
from mtla_espnet.jobs.fan_out import fan_out, number_of_shards, on_cluster
from mtla_espnet.jobs.log import say
from mtla_espnet.jobs.marks import Part, file_digest
from mtla_espnet.jobs.numbered import run_numbered_jobs, split_by_length
from mtla_espnet.json_files import digest, write_json
from mtla_espnet.recipe.espnet_arguments import frontend_files, load_espnet
from mtla_espnet.recipe.options import default_of
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.report.decodes import FAILED
from mtla_espnet.report.tables import write_results
from mtla_espnet.score.efficiency import FILE, merge_runs, rtf_log
from mtla_espnet.score.registry import retire_results
from mtla_espnet.search.batch_plan import whole_batches
from mtla_espnet.stages.shared.decode_shard import DecodeShard
from mtla_espnet.stages.shared.decoding import keep_beside_model

TITLE = "Decode"
_TABLES = ("text", "token", "token_int", "score")
_MOST_NAMED = 5  # of utterances, in a line


def parts(recipe: Recipe) -> list[Part]:
    """One part a set."""
    result = []
    for name, data_dir in recipe.sets.evaluated.items():
        directory = recipe.paths.inference_dir / name
        result.append(
            Part(
                directory=directory,
                options={"config": recipe.inference_config},
                inputs={data_dir / table: 3 for table in _tables_read(recipe, data_dir)}
                | {recipe.paths.model_file: 11, recipe.paths.exp_dir / "config.yaml": 11}
                | {path: 11 for path in recipe.paths.ensemble}
                | {path.with_name("config.yaml"): 11 for path in recipe.paths.ensemble}
                | {recipe.tokens.token_list: 5}
                | {path: 7 for path in recipe.paths.lm_files.values()}
                | {path: 9 for path in recipe.paths.ngram_files.values()},
                watched=frontend_files(recipe),
                outputs=[directory / name for name in (*_TABLES, FILE)],
                name=name,
            )
        )
    return result


def _tables_read(recipe: Recipe, data_dir: Path) -> list[str]:
    """Return the tables of a set that are decoded, the one with all keys first."""
    if recipe.speech:
        beside = [text.table for text in recipe.texts if text.name == "transcript"]
        facts = recipe.speech.facts_of(data_dir)
        return [recipe.speech.scp, recipe.speech.lengths, *facts, *beside]
    return [text.table for text in recipe.texts if text.name == "src_text"]


def run(recipe: Recipe, part: Part) -> None:
    """Decode one set in inference_nj jobs, and join their results.

    What an interrupted run decoded by the same model, configuration, arguments and data is
    kept, whatever its number of jobs; `efficiency.json` counts all runs.

    Raises:
        JobFailed: decoding failed.
        UserError: the model or the set is not whole, or utterances were left out, which are
            listed in `failed.tsv` beside the results of the others.
    """
    options = recipe.options
    from mtla_espnet.inference.journal import read_journals
    from mtla_espnet.search.batching import available_memory  # here: they load torch

    data_dir = recipe.sets.evaluated[part.name]
    log_dir = part.directory / "logdir"
    journals = log_dir / "journals"
    if options.force:
        shutil.rmtree(journals, ignore_errors=True)
    gpu = options.gpu_inference
    device = fan_out(_device_name, [gpu], 1)[0] if on_cluster() else _device_name(gpu)
    identity = identity_of(part, device)
    known, _ = read_journals(journals, identity)
    if known:
        say(f"{part.name}: {len(known)} utterances were decoded by an interrupted run")
    lengths = _lengths(recipe, data_dir)
    devices = visible_devices() if gpu and not on_cluster() else []
    shards = _shards(recipe, devices, lengths)
    n_jobs = len(shards)
    alone = n_jobs == 1 and not on_cluster()
    each = devices_of(n_jobs) if devices and not alone else []
    if not each and not on_cluster():
        load_espnet()  # once: the jobs are forked children
    memory_bytes = round(1e9 * options.max_memory) or None
    if not on_cluster():
        memory_bytes = memory_bytes or available_memory()
        memory_bytes = memory_bytes and memory_bytes // min(n_jobs, os.cpu_count() or 1)
    shard = DecodeShard(
        shards=shards,
        name=f"{recipe.task.model}_inference",
        log_dir=log_dir,
        journals=journals,
        identity=identity,
        memory_bytes=memory_bytes,
        progress=alone,
        arguments={
            "task": recipe.task.name,
            "train_config": recipe.paths.exp_dir / "config.yaml",
            "model_file": recipe.paths.model_file,
            "ensemble": recipe.paths.ensemble,
            "token_list": recipe.tokens.token_list,
            "inference_config": recipe.inference_config,
            "data_dir": data_dir,
            "batch_size": options.batch_size,
            "batch_length": options.batch_length,
            "ngpu": int(options.gpu_inference),
        },
    )
    logs = log_dir / f"{recipe.task.model}_inference.*.log"
    bar = None if alone else f"decode {part.name}"  # one job shows its own
    decoded = run_numbered_jobs(shard, n_jobs, logs, bar, devices=each)
    _, earlier = read_journals(journals, identity, without={shard.journal for shard in decoded})
    outputs = [log_dir / f"output.{number}" for number in range(1, n_jobs + 1)]
    # What an earlier decode reached does not belong to this one.
    retire_results(part.directory)
    (recipe.paths.exp_dir / "RESULTS.md").unlink(missing_ok=True)
    join_tables(outputs, part.directory)
    cost = merge_runs(earlier, [shard.cost for shard in decoded if shard.cost])
    cost["workers"] = len({shard.worker for shard in decoded})
    write_text(log_dir / "calculate_rtf.log", rtf_log(cost))
    write_json(part.directory / FILE, cost)
    failed = {key: reason for shard in decoded for key, reason in shard.failed.items()}
    keep_beside_model(recipe)
    tell_empty(part.directory / "score", part.name)
    try:
        report_failed(failed, len(lengths), part.directory / FAILED)
    except UserError:
        write_results(recipe.paths.exp_dir)  # which tells of them
        raise
    shutil.rmtree(journals)


def _wanted_jobs(recipe: Recipe, devices: list[str]) -> int:
    """Return how many processes decode; with GPUs of this machine, by default one a GPU."""
    wanted = recipe.options.inference_nj
    if on_cluster() or not recipe.options.gpu_inference:
        return number_of_shards(wanted)
    given = wanted != default_of(recipe.task.name, "inference_nj")
    return wanted if given else max(1, len(devices))


def _shards(recipe: Recipe, devices: list[str], lengths: dict[str, int]) -> list[list[str]]:
    """Share a set between jobs, each about as long; on a GPU by whole batches.

    What a GPU computes depends in its last bits on what else is in the batch. So the batches are
    those of one process alone, and the results are, too.
    """
    wanted = max(1, min(_wanted_jobs(recipe, devices), len(lengths)))
    if not recipe.options.gpu_inference or wanted == 1:
        return split_by_length(lengths, wanted)
    options = recipe.options
    batches = whole_batches(lengths, options.batch_size, options.batch_length)
    parts = split_by_length(batches, min(wanted, len(batches)))
    return [[key for batch in part for key in batch] for part in parts]


def _lengths(recipe: Recipe, data_dir: Path) -> dict[str, int]:
    """Return id -> about how long it is, to balance jobs; what is no length counts nothing."""
    first, *others = _tables_read(recipe, data_dir)
    keys = read_table(data_dir / first)
    if not recipe.speech:
        return {key: len(text) for key, text in keys.items()}
    lengths = read_table(data_dir / others[0]) if (data_dir / others[0]).exists() else {}
    numbers = {key: value.partition(",")[0] for key, value in lengths.items()}
    return {key: int(found) if (found := numbers.get(key, "")).isdigit() else 0 for key in keys}


def _device_name(gpu: bool) -> str:
    import torch  # here: a skipped stage need not wait for it

    return torch.cuda.get_device_name() if gpu and torch.cuda.is_available() else "cpu"


def identity_of(part: Part, device: str) -> str:
    """Name what a set is decoded by: results of another name are not kept.

    The number of jobs does not count: what is recognised does not depend on it. The device
    does: times of different ones do not add up.

    Args:
        part: the set.
        device: cpu, or the name of the GPU.
    """
    options = {key: value for key, value in part.options.items() if key != "inference_nj"}
    options["device"] = device
    files = {str(path): file_digest(path) for path in part.inputs if path.name != "text"}
    return digest({"options": options, "files": files})


def report_failed(failed: dict[str, str], n_utterances: int, path: Path) -> None:
    """List the utterances that were left out; no file where there are none.

    Args:
        failed: id -> reason.
        n_utterances: of the set.
        path: the list, with a head line.

    Raises:
        UserError: there are some; names the first.
    """
    if not failed:
        path.unlink(missing_ok=True)
        return
    lines = ["utterance\treason", *(f"{key}\t{failed[key]}" for key in sorted(failed))]
    write_text(path, "\n".join(lines) + "\n")
    first = min(failed)
    raise UserError(
        f"{len(failed)} of {n_utterances} utterances were not decoded (listed in {path}): "
        f"{first}: {failed[first]}"
    )


def tell_empty(scores: Path, name: str) -> None:
    """Say of how many utterances nothing was recognised: nothing found is no success.

    Args:
        scores: table of the best hypotheses' scores; minus infinity where there is none.
        name: of the set.
    """
    table = read_table(scores)
    empty = [key for key, score in table.items() if score == "-inf"]
    if empty:
        named = " ".join(empty[:_MOST_NAMED]) + (" ..." if len(empty) > _MOST_NAMED else "")
        say(f"{name}: nothing was recognised of {len(empty)} of {len(table)} utterances: {named}")


def join_tables(outputs: list[Path], target: Path) -> None:
    """Join the 1-best tables of several jobs."""
    for name in _TABLES:
        joined = {}
        for output in outputs:
            joined |= read_table(output / "1best_recog" / name)
        write_table(target / name, joined)
