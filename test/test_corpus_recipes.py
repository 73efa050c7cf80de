"""Recipes of the paper's corpora: each runs through all stages on its fixture."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.recipe.load import load_recipe
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.score.bleu import read_bleu
from queen_game import dialogue, game, mp3
from raw_corpora import FIXTURES, write_debian_indices, write_templates
from wesnoth_games import write_games

CHECKOUT = Path(__file__).resolve().parents[1]
AMI_PART = '--mic ihm --meetings "ES2002a ES2011a EN2002a" --max_rejected 20'
SMALL = "--train_utterances 24 --valid_utterances 4 --test_voices_utterances 8"
SMALL += " --test_engine_utterances 0 --nj 1"
# Recipe -> the variable that names its corpus, and options for its fixture.
RECIPES = {
    "amazon_queen/asr1": ("QUEEN", ["--nbpe", "30", "--speed_perturb_factors", ""]),
    "ami/asr1": ("AMI", ["--nbpe", "36", "--max_unaligned", "30", "--local_data_opts", AMI_PART]),
    "debian/sum1": ("DEBIAN", ["--tgt_nbpe", "120"]),
    "home_assistant/slu1": (
        "HOME_ASSISTANT",
        ["--test_sets", "test_voices", "--local_data_opts", SMALL]
        + ["--nbpe", "130", "--max_unaligned", "100"],
    ),
    "must_c/asr1": ("MUST_C", ["--nbpe", "36", "--max_wav_duration", "1.5"]),
    "must_c/st1": (
        "MUST_C",
        ["--src_nbpe", "26", "--tgt_nbpe", "40", "--max_wav_duration", "1.5"],
    ),
    "slurp/slu1": ("SLURP", ["--local_data_opts", "--nbpe 36"]),
    "wesnoth/st1": (
        "WESNOTH",
        ["--src_nbpe", "30", "--tgt_nbpe", "34", "--test_sets", "test_drascula"]
        + ["--local_data_opts", "--engines espeak"],
    ),
    "xsum/sum1": ("XSUM", ["--tgt_nbpe", "60", "--local_data_opts", "--max_rejected 40"]),
}
MODELS = {"asr1": "asr", "st1": "st", "slu1": "slu", "sum1": "mt"}


def copy_recipe(name, directory):
    """Copy a recipe with what its scripts read, and return it."""
    made = shutil.ignore_patterns("data", "downloads", "dump", "exp")
    for part in ("conf", "egs2/TEMPLATE", f"egs2/{name}"):
        shutil.copytree(CHECKOUT / part, directory / part, ignore=made, dirs_exist_ok=True)
    return directory / "egs2" / name


def run_script(recipe, script, *argv, **variables):
    environment = {
        **os.environ,
        "python": sys.executable,
        "PYTHONPATH": str(CHECKOUT),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    return subprocess.run(
        [script, *argv],
        cwd=recipe,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run_all_stages(name, directory, *more, corpus=None):
    """Run stages 1 to 13 of a recipe on its fixture, or `corpus`, with its tiny configuration."""
    variable, options = RECIPES[name]
    recipe = copy_recipe(name, directory)
    task, model = recipe.name.removesuffix("1"), MODELS[recipe.name]
    argv = ["--nj", "1", "--ngpu", "0", "--batch_size", "4", "--stop_stage", "13"]
    argv += [f"--{model}_config", f"conf/train_{task}_tiny.yaml"]
    argv += [f"--inference_{model}_model", "valid.acc.ave_2best.pth"]
    argv += ["--inference_args", "--beam_size 2"]
    fixture = {variable: str(corpus or FIXTURES / variable.lower())}
    done = run_script(recipe, "./run.sh", *argv, *options, *more, **fixture)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Successfully finished" in done.stdout
    (results,) = recipe.glob("exp/*/RESULTS.md")
    return recipe, results.read_text(encoding="utf-8")


@pytest.mark.espnet
def test_ami_runs_on_its_fixture(tmp_path):
    recipe, results = run_all_stages("ami/asr1", tmp_path)
    # 3 words of the evaluation set, by speakers as the corpus names them.
    assert "/ihm_eval|2|3|" in results and "/org/ihm_dev|2|3|" in results
    (reference,) = recipe.glob("exp/asr_*/decode_*/ihm_eval/score_wer/ref.trn")
    key = "AMI_EN2002a_H04_MEE096"
    assert f"THANK YOU\t({key}-{key}_0000045_0000110)" in reference.read_text()


@pytest.mark.espnet
def test_translation_starts_from_the_recogniser_of_must_c(tmp_path):
    recogniser, results = run_all_stages("must_c/asr1", tmp_path)
    assert "/tst-COMMON.en-de|2|6|" in results
    (model,) = recogniser.glob("exp/asr_*/valid.acc.ave_2best.pth")
    start = f"../asr1/{model.relative_to(recogniser)}:encoder:encoder"
    recipe, results = run_all_stages("must_c/st1", tmp_path, "--pretrained_asr", start)
    assert "### BLEU" in results and "/tst-COMMON.en-de|" in results
    (log,) = recipe.glob("exp/st_*/train.log")
    assert f"Loading pretrained params from {start}" in log.read_text(encoding="utf-8")
    kept = (recipe / "dump/raw/train.en-de/text.tc.de").read_text(encoding="utf-8")
    assert kept.count("\n") == 4 and "0001750_0003650" not in kept  # longer than the limit


@pytest.mark.espnet
def test_slurp_runs_on_its_fixture(tmp_path):
    recipe, results = run_all_stages("slurp/slu1", tmp_path)
    assert "Intent Classification" in results and "/test|2|" in results
    tokens = (recipe / "data/en_token_list/word/tokens.txt").read_text(encoding="utf-8").split()
    assert {"alarm_set", "email_sendemail", "social_post", "play_music"} <= set(tokens)


@pytest.mark.espnet
def test_xsum_runs_on_its_fixture(tmp_path):
    recipe, results = run_all_stages("xsum/sum1", tmp_path)
    assert "ROUGE" in results
    (references,) = recipe.glob("exp/mt_*/decode_*/test/score_rouge/ref.trn")
    # Joined again: what stage 1 tokenised is `A town has won a prize .`
    assert "A town has won a prize.\t(39000021)" in references.read_text(encoding="utf-8")


@pytest.mark.espnet
def test_debian_runs_on_its_fixture(tmp_path):
    words = "reads writes sorts merges counts files tables images sounds lines".split()
    packages = []
    for number in range(120):
        name = f"lib{chr(97 + number // 10)}{words[number % 10]}"
        long = " ".join(words[(number * step) % 10] for step in range(1, 32)) + "."
        packages.append((name, name, f"library that {words[number % 10]} {name}", f"{name} {long}"))
    write_debian_indices(tmp_path / "indices", packages)
    recipe, results = run_all_stages("debian/sum1", tmp_path, corpus=tmp_path / "indices")
    assert re.search(r"/test\|\d", results) and "first sentence of the document" in results
    tests = (recipe / "dump/raw/test/text").read_text(encoding="utf-8").splitlines()
    (references,) = recipe.glob("exp/mt_*/decode_*/test/score_rouge/ref.trn")
    assert len(references.read_text(encoding="utf-8").splitlines()) == len(tests) >= 2


@pytest.mark.espnet
def test_amazon_queen_runs_on_a_game(tmp_path):
    words = "the plane has landed in a jungle near some old temple".split()
    talks = {
        number: " ".join(words[(number * step) % 11] for step in range(1, 5))
        for number in range(6, 16)
    }
    characters = ("BOB", "JIM", "WITCH")
    files = {"QUEEN2.JAS": b""}
    speech = mp3(1.5)
    for key, who in enumerate(characters, 1):
        lines = {number: f"{who} {text}" for number, text in talks.items()}
        files[f"{who}.DOG"] = dialogue(key, {6: f"Joe {who}"}, lines)
        files |= {f"{key:02d}{number:04X}P1.SB": speech for number in lines}
        files[f"{key:02d}0006J1.SB"] = speech
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/queen.1c").write_bytes(game(files))
    recipe, results = run_all_stages("amazon_queen/asr1", tmp_path, corpus=tmp_path / "raw")
    assert re.search(r"/test_characters\|10\|50\|", results)
    assert re.search(r"/test_scenes\|1\|2\|", results)


@pytest.mark.espnet
def test_home_assistant_runs_on_small_templates(tmp_path):
    write_templates(tmp_path / "raw")
    recipe, results = run_all_stages("home_assistant/slu1", tmp_path, corpus=tmp_path / "raw")
    assert "Intent Classification" in results and "/test_voices|8|" in results
    (file,) = recipe.glob("exp/slu_*/decode_*/test_voices/score_slots/result.json")
    scores = json.loads(file.read_text(encoding="utf-8"))
    text = (recipe / "data/test_voices/text").read_text(encoding="utf-8")
    assert scores["reference"] == text.count("</") > 0
    assert 0 <= scores["f1"] <= 100
    # What is right, of what is there and of what is said.
    directory = tmp_path / "exp/set/score_wer"
    directory.mkdir(parents=True)
    (directory / "ref.trn").write_text("X <area> a b </area> <name> c </name>\t(s-1)\nY\t(s-2)\n")
    (directory / "hyp.trn").write_text("X <area> a b </area>\t(s-1)\nY <name> c </name>\t(s-2)\n")
    done = run_script(recipe, "local/score.sh", str(tmp_path / "exp"))
    assert done.returncode == 0, done.stderr
    scores = json.loads((directory.parent / "score_slots/result.json").read_text())
    assert [scores[name] for name in ("reference", "hypothesis", "correct")] == [2, 2, 1]
    assert [scores[name] for name in ("precision", "recall", "f1")] == [50, 50, 50]


@pytest.mark.espnet
def test_wesnoth_runs_on_small_games(tmp_path):
    words = {
        "we": "wir", "fight": "bekämpfen", "the": "die", "orcs": "Orks", "and": "und",
        "elves": "Elfen", "today": "heute", "here": "hier", "old": "alten", "trolls": "Trolle",
    }  # fmt: skip
    english = list(words)

    def pair(number):
        chosen = random.Random(number).sample(english, 5)
        return " ".join(chosen).capitalize() + ".", " ".join(words[each] for each in chosen) + "."

    messages = {
        "httt": dict(pair(number) for number in range(2, 40)),
        "ei": {"The trolls fight the elves today.": "Die Trolle bekämpfen heute die Elfen."},
        "tb": {"We fight old elves.": "Wir bekämpfen alte Elfen."},
    }
    sky = {(1, 5): ("The ORCS!", "Die ORKS!", 1.5), (5, 1): ("We fight", "Wir K*mpfen", 1.5)}
    write_games(tmp_path / "raw", messages, sky, {"4": ("OLD ORCS", "ALTE ORKS")})
    recipe, results = run_all_stages("wesnoth/st1", tmp_path, corpus=tmp_path / "raw")
    assert "### BLEU" in results and "/test_drascula|" in results
    baselines = recipe / "exp/baselines"
    copied = (baselines / "copy/test_drascula/text").read_text(encoding="utf-8")
    assert copied == "drascula_HERO-4 OLD ORCS\n"
    answer = (baselines / "most_frequent/test_steel_sky/text").read_text(encoding="utf-8")
    german = (recipe / "data/train/text.tc.de").read_text(encoding="utf-8")
    assert answer.partition(" ")[2] in german
    # Lower case without punctuation: the orcs are nearly the same in both languages.
    scores = read_bleu(baselines / "copy/test_drascula/score_bleu/result.lc.txt")
    assert 0 < scores["chrF2"]["score"] < 100


def test_the_cascade_translates_what_it_recognised(tmp_path):
    """With a stand-in for the stages, whose options are checked."""
    recipe = copy_recipe("wesnoth/st1", tmp_path)
    tables = {
        "utt2spk": {"a-1": "a", "a-2": "a"},
        "spk2utt": {"a": "a-1 a-2"},
        "text.lc.rm.en": {"a-1": "old orcs", "a-2": "we fight"},
        "text.tc.de": {"a-1": "Alte Orks", "a-2": "Wir kämpfen"},
    }
    for name in ("train", "valid", "test_drascula"):
        for table, values in tables.items():
            write_table(recipe / "data" / name / table, values)
    work, decoded = recipe / "exp/cascade", "exp/model/decode"
    write_table(work / "asr" / decoded / "test_drascula/text", {"a-1": "cold orcs", "a-2": ""})
    for name, first in (("test_drascula", "Kalte Orks"), ("true_drascula", "Alte Orks")):
        write_table(work / "mt" / decoded / name / "text", {"a-1": first, "a-2": "Wir kämpfen"})
    stages = tmp_path / "python"
    stages.write_text(
        f"""#!/bin/sh
case "$*" in
-m*) shift 3; printf '%s\\t' "$@" >>{tmp_path}/called; echo >>{tmp_path}/called ;;
*) exec {sys.executable} "$@" ;;
esac
"""
    )
    stages.chmod(0o755)
    done = run_script(
        recipe, "local/cascade.sh", "--ngpu", "0",
        python=str(stages), TESTS="test_drascula", ASR_ARGS="--nbpe 27", MT_ARGS="--tgt_nbpe 50",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_table(work / "mt/data/test_drascula/src_text") == {
        "a-1": "cold orcs",
        "a-2": "nothing",
    }
    for name in ("train", "valid", "true_drascula"):
        directory = work / "mt/data" / name
        assert read_table(directory / "src_text") == tables["text.lc.rm.en"]
        assert read_table(directory / "text") == tables["text.tc.de"]
    baselines = recipe / "exp/baselines"
    scores = {
        name: read_bleu(baselines / name / "test_drascula/score_bleu/result.tc.txt")["chrF2"][
            "score"
        ]
        for name in ("cascade", "cascade_true")
    }
    assert scores["cascade_true"] == 100 > scores["cascade"] > 50
    calls = (tmp_path / "called").read_text().splitlines()
    for task, place, call in zip(("asr", "sum"), ("asr", "mt"), calls, strict=True):
        name, *argv = call.removesuffix("\t").split("\t")
        assert name == task
        loaded = load_recipe(parse_options(argv, task=task), work / place)
        assert loaded.options.ngpu == 0 and loaded.options.stage == 2


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_asks_for_its_corpus(tmp_path, name):
    variable, _ = RECIPES[name]
    done = run_script(copy_recipe(name, tmp_path), "local/data.sh", **{variable: ""})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Fill the value of '{variable}' of db.sh\n"


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_files_of_options_are_legal(name):
    recipe = CHECKOUT / "egs2" / name
    task = recipe.name.removesuffix("1")
    for path in [*recipe.glob("conf/mic_*.yaml"), *recipe.glob("conf/pair_*.yaml")]:
        options = parse_options(["--config", str(path)], task=task)
        assert options.train_set and options.valid_set and options.test_sets
        assert options.local_data_opts.split()[1] in options.train_set
