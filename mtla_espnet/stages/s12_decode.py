"""Stage 12: decode the test sets."""

import shlex
from pathlib import Path

from mtla_espnet.data.tables import read_table, write_table
from mtla_espnet.files import write_json, write_text
from mtla_espnet.score.efficiency import FILE, merge_efficiency, rtf_log
from mtla_espnet.stages.espnet_arguments import load_espnet
from mtla_espnet.stages.jobs import run_numbered_jobs, split_keys
from mtla_espnet.stages.layout import used_options
from mtla_espnet.stages.log import job_log
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.recipe import Recipe

TITLE = "Decode"
_TABLES = ("text", "token", "token_int", "score")


def parts(recipe: Recipe) -> list[Part]:
    """One part a set."""
    layout, options = recipe.layout, recipe.options
    result = []
    for name, data_dir in layout.eval_sets.items():
        directory = layout.inference_dir / name
        result.append(
            Part(
                directory=directory,
                options=used_options(options, "batch_size", "gpu_inference", "inference_nj")
                | {"config": recipe.inference_config},
                inputs={data_dir / table: 3 for table in ("wav.scp", "text", "utt2num_samples")}
                | {layout.model_file: 11, layout.exp_dir / "config.yaml": 11},
                outputs=[directory / name for name in (*_TABLES, FILE)],
                name=name,
            )
        )
    return result


def run(recipe: Recipe, part: Part) -> None:
    """Decode one set in inference_nj jobs, and join their results.

    Raises:
        JobFailed: decoding failed.
        UserError: see `mtla_espnet.search.decode.decode`.
    """
    layout, options = recipe.layout, recipe.options
    load_espnet()  # once: the jobs are forked children
    from mtla_espnet.search.decode import decode  # here: it loads ESPnet

    data_dir = layout.eval_sets[part.name]
    log_dir = part.directory / "logdir"
    keys = list(read_table(data_dir / "wav.scp"))
    n_jobs = 1 if options.gpu_inference else max(1, min(options.inference_nj, len(keys)))
    shards = split_keys(keys, n_jobs)

    def decode_shard(number: int) -> dict:
        shard = shards[number - 1]
        output = log_dir / f"output.{number}"
        write_table(log_dir / f"keys.{number}.scp", {key: key for key in shard})
        log = log_dir / f"asr_inference.{number}.log"
        command = shlex.join(["decode", str(layout.model_file), str(data_dir), str(output)])
        with job_log(log, command, silent=n_jobs > 1):
            return decode(
                task="asr",
                train_config=layout.exp_dir / "config.yaml",
                model_file=layout.model_file,
                inference_config=recipe.inference_config,
                data_dir=data_dir,
                keys=shard,
                output_dir=output,
                batch_size=options.batch_size,
                ngpu=int(options.gpu_inference),
                token_type=None,
                bpemodel=None,
                progress=n_jobs == 1,
            )

    logs = log_dir / "asr_inference.*.log"
    bar = f"decode {part.name}" if n_jobs > 1 else None  # one job shows its own
    costs = run_numbered_jobs(decode_shard, n_jobs, logs, bar)
    outputs = [log_dir / f"output.{number}" for number in range(1, n_jobs + 1)]
    join_tables(outputs, part.directory)
    cost = merge_efficiency(costs)
    write_text(log_dir / "calculate_rtf.log", rtf_log(cost))
    write_json(part.directory / FILE, cost)


def join_tables(outputs: list[Path], target: Path) -> None:
    """Join the 1-best tables of several jobs."""
    for name in _TABLES:
        joined = {}
        for output in outputs:
            joined |= read_table(output / "1best_recog" / name)
        write_table(target / name, joined)
