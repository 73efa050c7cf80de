"""An experiment of a recipe becomes another one, with latent attention in its decoder."""

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtla_espnet.attention.kinds import attention_class
from mtla_espnet.attention.mha import GroupedQuery
from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.to_latent import (
    Heads,
    Moments,
    fill_latent,
    latent_sizes,
    merge_by_mean,
    rotary_counts,
    with_bias,
)
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.files import UserError, reading, writing
from mtla_espnet.inference.decodable import usable_device
from mtla_espnet.inference.decoding_config import FILE as DECODING
from mtla_espnet.inference.model_files import load_model, model_files
from mtla_espnet.position import THETA
from mtla_espnet.task import task_of
from mtla_espnet.task.record import Task
from mtla_espnet.trust import nothing_runs
from mtla_espnet.yaml_files import dump_yaml, read_yaml

_BATCH = 8
# Directories above an experiment in which its recipe's dump may be.
_LEVELS = 3


def convert(arguments: argparse.Namespace, made: Path) -> tuple[list[dict], str]:
    """Write the converted experiment: what decoding and further training need of it.

    Args:
        arguments: of the verb.
        made: directory to write in.

    Returns:
        A row for each model with its cache, and loss and accuracy on held-out utterances of the
        validation set; and what to do next.

    Raises:
        UserError: it cannot be converted.
    """
    from mtla_espnet.tasks.register import register, task_class

    if arguments.calibration:
        raise UserError("--calibration is of a Llama: an experiment is calibrated on its data", 2)
    source = arguments.model
    config = read_yaml(source / "config.yaml")
    task = task_of(config)
    register()
    espnet_task = task_class(task)
    with model_files(source, task) as files:
        model_file = files[f"{task.model}_model_file"]
        model, trained = load_model(
            espnet_task, files[f"{task.model}_train_config"], model_file, task
        )
    decoder = model.decoder
    attention = decoder.blocks[0].attention if isinstance(decoder, DecoderOnly) else None
    is_plain_latent = type(attention) is Latent
    if not is_plain_latent and not isinstance(attention, GroupedQuery):
        kind = config.get("decoder_conf", {}).get("attention", config.get("decoder"))
        raise UserError(f"{source}: its decoder is {kind}: mha, gqa, mqa and mla are converted")
    if is_plain_latent and arguments.to == "mla":
        raise UserError(f"{source}: is MLA already; --to mtla merges positions")
    model = model.to(usable_device(arguments.device))
    data = Data(espnet_task, trained, source, task)
    seen = data.batches("train", arguments.calibration_utterances, model)
    held_out = data.batches("valid", arguments.calibration_utterances, model)
    told = []

    def tell(name: str) -> None:
        loss, accuracy = measured(model, held_out)
        numbers = decoder.cache_bytes_per_position() / 4 / len(decoder.blocks)
        told.append({"model": name, "numbers a position": numbers} | {"loss": loss} | accuracy)

    tell("given")
    if is_plain_latent:
        conf = dict(config["decoder_conf"].get("attention_conf") or {})
    else:
        conf = to_mla(model, seen, arguments.kv_lora_rank, arguments.qk_rope_head_dim)
        tell(f"mla, rank {conf['kv_lora_rank']}")
    if arguments.to == "mtla":
        conf["down_rate"] = arguments.down_rate
        for block in decoder.blocks:
            block.attention = _mtla(block.attention, conf)
        tell(f"mtla, s = {arguments.down_rate}, chunks as plain means")
    decoder_conf = config["decoder_conf"] | {"attention": arguments.to, "attention_conf": conf}
    overlay = f"{arguments.to}_converted.yaml"
    new = {"attention": arguments.to, "attention_conf": conf}
    with writing(made):
        (made / overlay).write_text(dump_yaml({"decoder_conf": new}), encoding="utf-8")
        config |= {"decoder_conf": decoder_conf, "output_dir": str(arguments.out)}
        (made / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
        torch.save(model.cpu().state_dict(), made / model_file.name)
        if (source / DECODING).is_file():
            shutil.copyfile(source / DECODING, made / DECODING)
    out = arguments.out
    advice = (
        f"decode it:   mtla-espnet {task.verb[0]} --model {out} ...\n"
        f"train it on: ./run.sh --stage 11 --attention {out / overlay} --pretrained_model "
        f"{out / model_file.name} --{task.model}_args '--max_epoch 2 --keep_nbest_models 1'"
    )
    return told, advice


@torch.no_grad()
def to_mla(
    model: torch.nn.Module,
    batches: Sequence[dict],
    kv_lora_rank: int | None = None,
    qk_rope_head_dim: int | None = None,
) -> dict[str, object]:
    """Replace the attention of a model's decoder by MLA that is near to it.

    Args:
        model: with MHA, GQA or MQA in a `DecoderOnly`; changed.
        batches: of inputs.
        kv_lora_rank: r, even; None: four head widths, or all numbers of keys and values.
        qk_rope_head_dim: even; None: half of a head's width.

    Returns:
        The `attention_conf` of the new one.

    Raises:
        UserError: a size that the heads do not have.
    """
    blocks = model.decoder.blocks
    old: GroupedQuery = blocks[0].attention
    width = old.head_dim
    rank, rope = latent_sizes(width, old.num_kv_heads, kv_lora_rank, qk_rope_head_dim)
    heads, longest = _calibrated(model, batches)
    frequencies = THETA ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    counts = rotary_counts(heads, frequencies, rope, longest)
    conf = {
        "bias": old.wq.bias is not None,
        "kv_lora_rank": rank,
        "qk_nope_head_dim": width,
        "qk_rope_head_dim": rope,
        "v_head_dim": width,
        "rope_frequencies": [
            float(f) for f, n in zip(frequencies, counts, strict=True) for _ in range(n)
        ],
        "latent_norm": False,
    }
    for block, each in zip(blocks, heads, strict=True):
        scale, place = block.attention.softmax_scale, block.attention.wq.weight
        latent = _new("mla", block.attention, conf)
        fill_latent(latent, each, counts, scale)
        block.attention = latent.to(place.device, place.dtype)
    return conf


def _new(kind: str, like, conf: dict) -> Latent:
    """Return an attention of the sizes of another one."""
    return attention_class(kind)(like.embed_dim, like.num_heads, like.dropout, **conf).eval()


def _mtla(latent: Latent, conf: dict) -> Latent:
    temporal = _new("mtla", latent, conf).to(latent.wo.weight.device)
    merge_by_mean(temporal, latent)
    return temporal


def _calibrated(model: torch.nn.Module, batches: Sequence[dict]) -> tuple[list[Heads], int]:
    """Return the heads of all layers, with the moments of their inputs, and the longest key."""
    attentions = [block.attention for block in model.decoder.blocks]
    moments = [(Moments(each.embed_dim), Moments(each.embed_dim)) for each in attentions]
    longest = 0

    def reads(asking: Moments, asked: Moments):
        def hook(module, inputs):
            nonlocal longest
            query, key, query_position, key_position = inputs
            for moment, x, position in (
                (asking, query, query_position),
                (asked, key, key_position),
            ):
                moment.add(x[position.index >= 0])
            longest = max(longest, key.size(1))

        return hook

    hooks = [
        attention.register_forward_pre_hook(reads(*each))
        for attention, each in zip(attentions, moments, strict=True)
    ]
    try:
        for batch in batches:
            model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return [_heads(*each) for each in zip(attentions, moments, strict=True)], longest


def _heads(attention: GroupedQuery, moments: tuple[Moments, Moments]) -> Heads:
    groups = attention.num_kv_heads
    query, key, value = (
        with_bias(layer.weight, layer.bias, heads)
        for layer, heads in (
            (attention.wq, attention.num_heads),
            (attention.wk, groups),
            (attention.wv, groups),
        )
    )
    bias = attention.wo.bias
    bias = None if bias is None else bias.detach().double().cpu()
    weight = attention.wo.weight.detach().double().cpu()
    return Heads(query, key, value, weight, bias, *moments)


@torch.no_grad()
def measured(model: torch.nn.Module, batches: Sequence[dict]) -> tuple[float, dict[str, float]]:
    """Return the mean loss of utterances, and the accuracy of the next token where it is told."""
    losses, accuracies, weights = [], [], []
    for batch in batches:
        loss, stats, weight = model(**batch)
        losses.append(float(loss))
        weights.append(float(weight))
        if isinstance(stats.get("acc"), Tensor | float):
            accuracies.append(float(stats["acc"]))

    def mean(values: list[float]) -> float:
        return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)

    told = {"accuracy": mean(accuracies)} if len(accuracies) == len(weights) else {}
    return mean(losses), told


class Data:
    """The utterances that an experiment was trained on.

    Args:
        espnet_task: ESPnet's class of the task.
        trained: the arguments of its training.
        source: the experiment's directory.
        task: of the experiment.
    """

    def __init__(self, espnet_task: type, trained: argparse.Namespace, source: Path, task: Task):
        self._task, self._trained, self._source, self._kind = espnet_task, trained, source, task

    def batches(self, mode: str, count: int, model: torch.nn.Module) -> list[dict]:
        """Return batches of inputs of `model`, as in validation.

        Args:
            mode: train or valid.
            count: of utterances, from everywhere in the set.
            model: on whose device they are.

        Raises:
            UserError: the dump of the recipe is not there, or cannot be read.
        """
        files = getattr(self._trained, f"{mode}_data_path_and_name_and_type")
        root = self._root(files[0][0])
        device = next(model.parameters()).device
        with contextlib.chdir(root), reading(self._source, "its data cannot be read"):
            with open(files[0][0], encoding="utf-8") as lines:
                keys = [line.split(maxsplit=1)[0] for line in lines if line.strip()]
            step = max(1, len(keys) // count)
            with _key_file(keys[::step][:count]) as path, nothing_runs(files[0][0]):
                batches = self._task.build_streaming_iterator(
                    [tuple(each) for each in files],
                    preprocess_fn=self._task.build_preprocess_fn(self._trained, False),
                    collate_fn=self._task.build_collate_fn(self._trained, False),
                    key_file=path,
                    dtype="float32",
                    batch_size=_BATCH,
                    num_workers=0,
                )
                return [
                    {name: value.to(device) for name, value in batch.items()}
                    for _, batch in batches
                ]

    def _root(self, file: str) -> Path:
        """Return the directory that the files of training are relative to."""
        above = [Path.cwd(), *list(self._source.resolve().parents)[:_LEVELS]]
        for path in above:
            if (path / file).is_file():
                return path
        raise UserError(
            f"{self._source}: {file} is not there, which is needed to calibrate: run stages 1 to 5 "
            "of its recipe"
        )


@contextlib.contextmanager
def _key_file(keys: Sequence[str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "keys")
        path.write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
        yield str(path)
