"""The verb `export`: a trained model in the files of Hugging Face transformers."""

import argparse
import json
from pathlib import Path

from mtla_espnet.convert.verb import new_directory
from mtla_espnet.files import UserError, read_text
from mtla_espnet.task.record import Task

FORMATS = ("hf",)
# What ESPnet's training says of a model of text to text; files and machines are not among it.
_MODEL_KEYS = (
    *("token_list", "src_token_list", "input_size", "frontend", "frontend_conf"),
    *("preencoder", "preencoder_conf", "encoder", "encoder_conf", "postencoder"),
    *("postencoder_conf", "decoder", "decoder_conf", "ctc_conf", "model", "model_conf"),
)
# Of the search, where transformers has no name for it.
_SEARCH = ("maxlenratio", "minlenratio", "penalty", "temperature", "pre_beam_ratio")
_BESIDE = ("lm_train_config", "lm_file", "ngram_file")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Write a trained model of text to text (summarisation), its tokenizer and its search for "
        "Hugging Face transformers: AutoModelForSeq2SeqLM loads it after `import mtla_espnet.hf`."
    )
    parser.add_argument("format", choices=FORMATS, help="hf: config.json, model.safetensors")
    parser.add_argument(
        "experiment", type=Path, metavar="EXP", help="directory of an experiment, or a pack of it"
    )
    parser.add_argument("out", type=Path, metavar="DIR", help="new directory")


def run(arguments: argparse.Namespace) -> int:
    """Export.

    Raises:
        UserError: the model has no class in transformers; says what to use.
    """
    from mtla_espnet.inference.model_files import task_of_files

    source, out = arguments.experiment, arguments.out
    task = task_of_files(source)
    if task.speech:
        raise UserError(
            f"{source}: is of {task.does}: its decoder reads what a speech encoder makes, for "
            f"which transformers has no class. Use mtla_espnet.{task.inference.partition(':')[2]}"
            f".from_pretrained({str(source)!r}), or `mtla-espnet {task.verb[0]}`"
        )
    with new_directory(out) as made:
        export(source, task, made)
    print(
        f"{out}: after `import mtla_espnet.hf`, AutoModelForSeq2SeqLM.from_pretrained and "
        "AutoTokenizer.from_pretrained load it"
    )
    return 0


def export(source: Path, task: Task, made: Path) -> None:
    """Write a model of text to text.

    Args:
        source: an experiment's directory, or a pack of it.
        task: of the model.
        made: directory to write in.

    Raises:
        UserError: it cannot be written; names the key.
    """
    from mtla_espnet.hf import (
        Text2TextMTLAConfig,
        Text2TextMTLAForConditionalGeneration,
        Text2TextMTLATokenizer,
    )
    from mtla_espnet.inference.model_files import load_model, model_files
    from mtla_espnet.tasks.register import register, task_class

    register()
    with model_files(source, task) as files:
        train_config = files[f"{task.model}_train_config"]
        model_file = files[f"{task.model}_model_file"]
        given, trained = load_model(task_class(task), train_config, model_file, task)
        tokenizer = Text2TextMTLATokenizer(**_tokenizer_files(vars(trained), source, made))
        kept = _kept(files, train_config, source)
        told = {key: getattr(trained, key) for key in _MODEL_KEYS if hasattr(trained, key)}
        config = Text2TextMTLAConfig(
            training=json.loads(json.dumps(told)), vocab_size=len(given.token_list)
        )
        model = Text2TextMTLAForConditionalGeneration(config)
        model.model.load_state_dict(given.state_dict())
        model.generation_config = generation_config(kept, given, tokenizer)
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)


def _tokenizer_files(trained: dict, source: Path, made: Path) -> dict[str, str | None]:
    """Write what the tokenizer is made of, and return its arguments.

    Raises:
        UserError: a type of tokens that is not exported.
    """
    from mtla_espnet.hf.text2text_tokenizer import TOKEN_TYPES

    symbols = trained.get("non_linguistic_symbols")
    if isinstance(symbols, str):
        symbols = read_text(Path(symbols)).splitlines()
    told = {"cleaner": trained.get("cleaner"), "non_linguistic_symbols": symbols}
    models = {}
    for side, start in (("source", "src_"), ("target", "")):
        kind = trained.get(f"{start}token_type")
        if kind not in TOKEN_TYPES:
            raise UserError(
                f"{source}: {start}token_type: {kind} is not exported: {', '.join(TOKEN_TYPES)} are"
            )
        told[side] = {"token_type": kind, "tokens": trained[f"{start}token_list"]}
        models[f"{side}_model_file"] = trained[f"{start}bpemodel"] if kind == "bpe" else None
    path = made / "tokens.json"
    path.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    return {"tokens_file": str(path), **models}


def _kept(files: dict[str, Path], train_config: Path, source: Path) -> dict[str, object]:
    """Return the decoding options that are kept with a model.

    Raises:
        UserError: scores of other models are among them.
    """
    from mtla_espnet.inference.decoding_config import kept_config
    from mtla_espnet.inference.trained_model import DECODING_OPTIONS

    kept = kept_config(train_config, DECODING_OPTIONS)
    beside = [name for name in _BESIDE if name in kept or name in files]
    if beside:
        raise UserError(
            f"{source}: decodes with {beside[0]}, and a model alone is exported: take it out of "
            "its inference.yaml"
        )
    return kept


def generation_config(kept: dict, model, tokenizer):
    """Return a search of the house as a configuration of transformers.

    Args:
        kept: decoding options.
        model: ESPnet's.
        tokenizer: of transformers.
    """
    from transformers import GenerationConfig

    from mtla_espnet.inference.tokenizer import token_ids
    from mtla_espnet.search.options import NAMES, SearchOptions

    options = SearchOptions(**{name: kept[name] for name in kept.keys() & NAMES})
    options.check()
    count = min(options.nbest, options.beam_size)
    search = {name: getattr(options, name) for name in _SEARCH if name in kept}
    told = {
        "bos_token_id": model.sos,
        "eos_token_id": model.eos,
        "decoder_start_token_id": model.sos,
        "pad_token_id": getattr(model, "blank_id", 0),
        "num_beams": options.beam_size,
        "num_return_sequences": count,
    }
    if options.beam_size > 1:
        told["length_penalty"] = options.length_exponent
    if options.no_repeat_ngram_size:
        told["no_repeat_ngram_size"] = options.no_repeat_ngram_size
    if options.sampling:
        told |= {
            "do_sample": True,
            "num_beams": 1,
            "num_return_sequences": count,
            "temperature": float(search.pop("temperature", 1.0)),
            "top_k": options.sampling_topk,
            "top_p": options.sampling_topp or 1.0,
        }
        told.pop("length_penalty", None)
    for ratio, name in (("maxlenratio", "max_new_tokens"), ("minlenratio", "min_new_tokens")):
        if search.get(ratio, 0) < 0:
            told[name] = -int(search.pop(ratio))
    if kept.get("forced_prefix"):
        cutter = tokenizer._cutters["target"]
        search["prefix"] = token_ids(cutter, model.token_list, kept["forced_prefix"])
    config = GenerationConfig(**told)
    config.search = search
    return config
