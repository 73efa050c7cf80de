"""What a run will need, looked at before it begins: tools, files, GPUs, room on the disk.

A recipe's configurations are checked where they are read, in `mtla_espnet.recipe.load`.
"""

import importlib.util
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.jobs.processes import is_submitted
from mtla_espnet.network import no_model, unreachable_on_hub
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.tokens import text_cleaner, tokenizer
from mtla_espnet.stages.s09_ngram import PROGRAMS, missing_program
from mtla_espnet.stages.s15_upload import check_hub
from mtla_espnet.stages.shared.scores import scores_of

_TRAINING = {7, 11}
# A model that training makes by a criterion: valid.acc.best.pth, valid.acc.ave_10best.pth.
_BY_CRITERION = re.compile(r"((?:train|valid)\.\w+)\.(?:best|ave(?:_(\d+)best)?)\.pth")
_ESPNETS_CRITERIA = ("train,loss,min", "valid,loss,min", "train,acc,max", "valid,acc,max")


def check_needs(recipe: Recipe, stages: Sequence[int]) -> None:
    """Check what the chosen stages need and do not make themselves.

    Args:
        recipe: the recipe.
        stages: numbers of those that will run.

    Raises:
        UserError: something is missing; says which option asks for it and what to do.
    """
    options, stages = recipe.options, set(stages)
    _check_scripts(recipe, stages)
    _check_text_options(recipe)
    if 5 in stages:
        _check_pieces(recipe)
    if stages & {11, 12} and not options.download_model:
        name = f"inference_{recipe.task.model}_model"
        for file in getattr(options, name).split():
            _check_model_name(name, file, recipe.train_config)
    if options.use_lm and stages & {7, 8, 12} and not options.download_model:
        _check_model_name("inference_lm", options.inference_lm, recipe.lm_config)
    if options.use_ngram and 9 in stages:
        _check_programs()
    if options.use_ngram and 12 in stages and importlib.util.find_spec("kenlm") is None:
        raise UserError("--use_ngram true: decoding needs the package kenlm: pip install kenlm")
    if 13 in stages:
        for score in scores_of(recipe):
            score.check(options)
    if 15 in stages:
        check_hub(recipe)
    if stages & {10, 11}:
        _check_frontend(recipe.train_config)
    if is_submitted(options):
        stages -= _TRAINING  # their GPUs are those of the job
    if (options.ngpu and stages & _TRAINING) or (options.gpu_inference and 12 in stages):
        _check_gpus(options, stages)


def _check_frontend(config: Mapping) -> None:
    """Ask for a front end of the hub before the formatting, which takes long."""
    conf = config.get("frontend_conf") or {}
    model = conf.get("model")
    if config.get("frontend") != "transformers" or not isinstance(model, str):
        return
    is_id = model.count("/") < 2 and not model.startswith((".", "/", "~"))
    if model and is_id and not Path(model).is_dir() and (reason := unreachable_on_hub(model)):
        raise no_model(model, reason)


def _check_scripts(recipe: Recipe, stages: set[int]) -> None:
    data, score = recipe.root / "local/data.sh", recipe.root / "local/score.sh"
    if recipe.fairseq_dir:
        _check_manifests(recipe, stages)
    elif 1 in stages and not data.exists():
        raise UserError(f"{data}: no such file: it makes the data directories (stage 1)")
    for number, script in ((1, data), (13, score)):
        if number in stages and script.exists() and not os.access(script, os.X_OK):
            raise UserError(f"{script} is not executable: chmod +x {script}")


def _check_manifests(recipe: Recipe, stages: set[int]) -> None:
    for name in recipe.sets.given:
        path = recipe.fairseq_dir / f"{name}.tsv"
        if 1 in stages and not path.is_file():
            raise UserError(f"{path}: no such file: --fairseq_dir needs a manifest a set")


def _check_text_options(recipe: Recipe) -> None:
    options = recipe.options
    if options.nlsyms_txt != "none" and not (recipe.root / options.nlsyms_txt).is_file():
        raise UserError(f"--nlsyms_txt {options.nlsyms_txt}: no such file", 2)
    text_cleaner(options.cleaner)
    for text in recipe.texts:
        if options.g2p != "none" and text.tokens.token_type == "phn":
            tokenizer(recipe, text.tokens)("a")  # what it needs is imported at the first call


def _check_model_name(option: str, name: str, config: Mapping) -> None:
    """Refuse a best or averaged model that the training's configuration does not make."""
    wanted = _BY_CRITERION.fullmatch(name)
    if not wanted:
        return
    criteria = config.get("best_model_criterion", _ESPNETS_CRITERIA)
    words = [each.split(",") if isinstance(each, str) else list(each) for each in criteria]
    known = [f"{phase}.{key}" for phase, key, *_ in (map(str.strip, each) for each in words)]
    if wanted[1] not in known:
        raise UserError(
            f"--{option} {name}: the training keeps the best by {', '.join(known)} alone: name "
            f"one of those, such as {known[0]}.ave.pth, or change best_model_criterion"
        )
    kept = config.get("keep_nbest_models", 10)
    numbers = kept if isinstance(kept, list) else [kept]
    if wanted[2] and int(wanted[2]) not in (1, *numbers):
        raise UserError(
            f"--{option} {name}: the training averages {' and '.join(map(str, numbers))} models "
            f"(keep_nbest_models): name {wanted[1]}.ave.pth, or change keep_nbest_models"
        )


def _check_pieces(recipe: Recipe) -> None:
    """Compare numbers of BPE pieces with texts that are there before stage 1."""
    from mtla_espnet.data.text.token_list import fewest_pieces  # here: it loads sentencepiece

    for text in recipe.texts:
        tokens = text.tokens
        given = [path for path, maker in tokens.texts.items() if maker == 0 and path.is_file()]
        nbpe = tokens.options.get("nbpe")
        if nbpe is None or len(given) < len(tokens.texts):
            continue
        symbols = [symbol for symbol in tokens.options["bpe_nlsyms"].split(",") if symbol]
        fewest = fewest_pieces(
            [line for path in given for line in read_table(path).values()],
            tokens.options["bpe_char_cover"],
            symbols,
        )
        if fewest is not None and nbpe < fewest:
            names = ", ".join(map(str, given))
            raise UserError(f"--{text.kind.side}nbpe {nbpe}: {names} allows {fewest} or more", 2)


def _check_programs() -> None:
    for name in PROGRAMS:
        if shutil.which(name) is None:
            raise UserError(missing_program(name))


def _check_gpus(options, stages: set[int]) -> None:
    import torch  # here: a recipe on a CPU need not wait for it

    visible = torch.cuda.device_count()
    wanted = (options.ngpu or 0) if stages & _TRAINING else 0
    asked = f"--ngpu {wanted}"
    if options.gpu_inference and 12 in stages and wanted < 1:
        wanted, asked = 1, "--gpu_inference true"
    if visible < wanted:
        limited = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if limited is None else f" (CUDA_VISIBLE_DEVICES={limited})"
        count = (
            "no GPU is" if not visible else f"{visible} of them {'is' if visible == 1 else 'are'}"
        )
        raise UserError(f"{asked}: {count} visible{why}: lower it or free more", 2)


def check_room(recipe: Recipe) -> None:
    """Check that the formatted audio will fit on its disk; call it when stage 1 is done.

    Raises:
        UserError: it will not; says how much is needed and free.
    """
    options = recipe.options
    if not recipe.task.speech:
        return
    from humanfriendly import format_size  # here: needed once

    from mtla_espnet.data.audio.dump_space import dump_bytes, feature_bytes  # here: they read audio

    needed = 0.0
    for name in recipe.sets.given:
        is_train = name == recipe.sets.original_train
        data_dir = recipe.sets.data_dir(name)
        formatted = recipe.sets.formatted_dir(recipe.sets.train if is_train else name)
        if (formatted / recipe.speech.scp).exists() or not data_dir.is_dir():
            continue  # formatted already, or stage 3 will say that it is missing
        if recipe.speech.is_features:
            there = (data_dir / "feats.scp").exists()
            size = 0.0 if there else feature_bytes(data_dir) or 0.0
        else:
            size = dump_bytes(data_dir, recipe.rate, options.audio_format) or 0.0
        if is_train and recipe.sets.speed_factors:
            # Stage 2 writes the copies in data/ too, but for that of the same speed.
            copies = [1 / float(factor) for factor in recipe.sets.speed_factors]
            size *= sum(copies) + sum(copy for copy in copies if copy != 1.0)
        needed += size
    free = shutil.disk_usage(_nearest_existing(recipe.sets.dump_dir)).free
    if needed > free:
        raise UserError(
            f"{recipe.sets.dump_dir}: the formatted audio takes about {format_size(needed)}, and "
            f"{format_size(free)} are free there: free some, or name another disk by --dumpdir"
        )


def _nearest_existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
