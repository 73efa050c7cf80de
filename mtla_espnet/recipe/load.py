"""A recipe that is ready to run: its options and configurations, checked before stage 1."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.config import (
    apply_arguments,
    check_choices,
    check_keys,
    lay_attention,
    lay_frontend,
)
from mtla_espnet.files import UserError
from mtla_espnet.recipe.espnet_options import check_values, espnet_table
from mtla_espnet.recipe.names import check_names
from mtla_espnet.recipe.options import check_supported, default_of
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.search.options import check_options
from mtla_espnet.yaml_files import load_yaml

# ESPnet's own default where encoder_conf does not say the model size.
_DEFAULT_OUTPUT_SIZE = 256
_DEFAULT_HEADS = 4


def load_recipe(options: SimpleNamespace, root: str | os.PathLike = ".") -> Recipe:
    """Read and check a recipe's configurations, without ESPnet.

    Args:
        options: what `parse_options` returns.
        root: the recipe's directory.

    Raises:
        UserError: an option or a configuration is wrong; names the file and the key.
    """
    recipe = Recipe(options, Path(root))
    check_supported(options)
    check_task(recipe)
    program = recipe.task.program
    laid = load_yaml(recipe.paths.train_config) if recipe.paths.train_config else {}
    source = recipe.model_option("config") or "the default training configuration"
    check_train_keys(laid, source, program)
    laid = dict(recipe.fairseq.options) | laid
    overlay = recipe.frontend_overlay
    if overlay:
        laid = lay_frontend(laid, load_yaml(overlay), overlay)
        check_train_keys(laid, str(overlay), program)
    overlay = recipe.attention_overlay
    if overlay:
        laid = lay_attention(laid, load_yaml(overlay), overlay)
        source = f"{source} with {overlay}"
    config = laid
    arguments = recipe.model_option("args")
    if arguments:
        name = f"--{recipe.task.model}_args"
        config = apply_arguments(laid, arguments, name)
        check_train_keys(config, name, program)
        source = f"{source} with {name}"
    check_attention(config, source)
    notes: list[str] = []
    fitted = recipe.speech.fitted_frontend(config) if recipe.speech else {}
    if fitted:
        words = " ".join(f"{name}={value}" for name, value in fitted.items())
        notes.append(
            f"--fs {options.fs}: the front end has {words} samples, whose lengths in {source} are "
            "for 16 kHz; lengths of 15 to 45 ms every 5 to 15 ms would stay"
        )
    config = _lower_kept_models(config, source, notes)
    _check_auxiliary_losses(config, source)
    check_names(recipe)
    return dataclasses.replace(
        recipe,
        laid_config=laid,
        train_config=config,
        inference_config=_load_inference_config(recipe),
        lm_config=_load_lm_config(recipe, notes) if options.use_lm else {},
        notes=tuple(notes),
    )


def _load_lm_config(recipe: Recipe, notes: list[str]) -> dict:
    options = recipe.options
    config = load_yaml(recipe.paths.lm_config) if recipe.paths.lm_config else {}
    source = options.lm_config or "the default configuration of the language model"
    check_train_keys(config, source, "lm_train")
    if options.lm_args:
        config = apply_arguments(config, options.lm_args, "--lm_args")
        check_train_keys(config, "--lm_args", "lm_train")
        source = f"{source} with --lm_args"
    return _lower_kept_models(config, source, notes)


def _load_inference_config(recipe: Recipe) -> dict:
    options = recipe.options
    config = {}
    if options.inference_config:
        config = load_yaml(recipe.root / options.inference_config)
        check_keys(config, espnet_table()["inference"]["options"], options.inference_config)
    if options.inference_args:
        config = apply_arguments(config, options.inference_args, "--inference_args")
        check_keys(config, espnet_table()["inference"]["options"], "--inference_args")
    try:
        check_options(config)
    except UserError as error:
        given = options.inference_args and "--inference_args"
        source = " with ".join(filter(None, (options.inference_config, given)))
        raise UserError(f"{source}: {error}") from None
    files = recipe.paths.lm_files | recipe.paths.ngram_files
    return config | {name: str(path) for name, path in files.items()}


def check_task(recipe: Recipe) -> None:
    """Check the options that one task alone has.

    Raises:
        UserError: they contradict each other.
    """
    given = vars(recipe.options)
    if given.get("frontend") and recipe.speech.is_features:
        raise UserError(
            f"--frontend {given['frontend']} turns audio into features, and --feats_type "
            f"{given['feats_type']} has them: leave one out",
            exit_code=2,
        )
    if given.get("two_pass") and not given["use_transcript"]:
        raise UserError("--two_pass true needs --use_transcript true", exit_code=2)
    if given.get("token_joint"):
        for name in ("token_type", "nbpe", "bpemode"):
            source, target = f"src_{name}", f"tgt_{name}"
            default = default_of(recipe.task.name, source)
            if given[source] not in (default, given[target]):
                raise UserError(
                    f"--{source} {given[source]}: with --token_joint true the options of the "
                    f"target hold for both: leave it out, or set --{target}",
                    exit_code=2,
                )
    if given.get("src_lang") and (given["src_lang"], given["src_case"]) == (
        given["tgt_lang"],
        given["tgt_case"],
    ):
        raise UserError("--src_lang and --tgt_lang are the same language and case", exit_code=2)


def check_train_keys(config: Mapping, source: str, program: str = "asr_train") -> None:
    """Check the keys and values of a training configuration, and the classes that it chooses.

    Args:
        config: the configuration.
        source: the file or option that holds it, for messages.
        program: of ESPnet, which trains by it.

    Raises:
        UserError: a key does not exist, or a class, which names the nearest one; or ESPnet does
            not take a value.
    """
    table = espnet_table()[program]
    check_keys(config, table["options"], source)
    check_choices(config, table["choices"], source)
    check_values(config, source, program)


def check_attention(config: Mapping, source: str) -> None:
    """Check the attention of a decoder-only configuration.

    Raises:
        UserError: unknown kind or option, or sizes that do not fit; names file and key.
    """
    if config.get("decoder") != "decoder_only":
        return
    # Here: it imports torch, which other decoders and `--help` need not wait for.
    from mtla_espnet.attention.base import require_integer
    from mtla_espnet.attention.kinds import DEFAULT_KIND, resolve_attention_conf

    conf = config.get("decoder_conf") or {}
    width = (config.get("encoder_conf") or {}).get("output_size", _DEFAULT_OUTPUT_SIZE)
    heads = conf.get("attention_heads", _DEFAULT_HEADS)
    kind = conf.get("attention", DEFAULT_KIND)
    for name, size in (
        ("encoder_conf.output_size", width),
        ("decoder_conf.attention_heads", heads),
    ):
        if not isinstance(size, int) or size < 1:
            raise UserError(f"{source}: {name} must be a whole number from 1 on, not {size!r}")
    try:
        resolve_attention_conf(kind, conf.get("attention_conf") or {}, width, heads)
        require_integer("prefix_stride", conf.get("prefix_stride", 1))
    except (ValueError, TypeError) as error:
        raise UserError(f"{source}: decoder_conf: {error}") from None


def _check_auxiliary_losses(config: Mapping, source: str) -> None:
    """Refuse an ASR loss of translation that has no decoder: ESPnet fails in the first update."""
    conf = config.get("model_conf") or {}
    shares = [conf.get(name, 0.0) for name in ("asr_weight", "mtlalpha")]
    for name, share in zip(("asr_weight", "mtlalpha"), shares, strict=True):
        if not isinstance(share, int | float):
            raise UserError(f"{source}: model_conf.{name} must be a number, not {share!r}")
    if shares[0] > 0 and shares[1] < 1 and not config.get("extra_asr_decoder"):
        raise UserError(
            f"{source}: model_conf.asr_weight with mtlalpha below 1 needs extra_asr_decoder; "
            "say mtlalpha: 1.0 for CTC alone"
        )


def _lower_kept_models(config: dict, source: str, notes: list[str]) -> dict:
    """Average no more models than there are epochs: ESPnet would name the average otherwise."""
    kept, epochs = config.get("keep_nbest_models"), int(config.get("max_epoch", 40))
    if kept is None:
        return config
    numbers = [int(number) for number in (kept if isinstance(kept, list) else [kept])]
    if max(numbers, default=0) <= epochs:
        return config
    lowered = sorted({min(number, epochs) for number in numbers})
    notes.append(
        f"{source}: keep_nbest_models: {max(numbers)} is more than max_epoch: {epochs}, "
        f"so {epochs} are kept"
    )
    return config | {"keep_nbest_models": lowered}
