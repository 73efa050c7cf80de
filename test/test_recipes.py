"""Every recipe of egs2: its files are there, its options and YAML keys exist, it runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mtla_espnet.recipe.load import load_recipe
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.task import TASKS, task_named
from mtla_espnet.yaml_files import load_yaml

CHECKOUT = Path(__file__).resolve().parents[1]
RECIPES = sorted(
    path for path in CHECKOUT.glob("egs2/*/*") if path.is_dir() and path.parent.name != "TEMPLATE"
)
NAMES = [str(path.relative_to(CHECKOUT / "egs2")) for path in RECIPES]
OVERLAYS = sorted((CHECKOUT / "conf/attention").glob("*.yaml"))
FRONTENDS = sorted((CHECKOUT / "conf/frontend").glob("*.yaml"))
recipes = pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)


def task_of(recipe):
    return task_named(recipe.name.removesuffix("1"))


def options_of(recipe):
    """The options that run.sh gives."""
    script = (recipe / "run.sh").read_text().replace("\\\n", " ")
    (call,) = re.findall(r"^exec \./\w+\.sh (.*)$", script, re.MULTILINE)
    words = shlex.split(call)
    assert words.pop() == "$@", "the user's options come last"
    # Files of options stand in the recipe's directory, in which run.sh works.
    files = {place + 1 for place, word in enumerate(words) if word == "--config"}
    return [str(recipe / word) if place in files else word for place, word in enumerate(words)]


def test_there_are_recipes():
    assert {"mini_an4/asr1", "smarthome/asr1", "smarthome/st1", "smarthome/slu1"} <= set(NAMES)


@recipes
def test_a_recipe_has_its_files(recipe):
    programs = ("run.sh", f"{task_of(recipe).name}.sh", "local/data.sh")
    for name in ("README.md", "path.sh", "cmd.sh", "db.sh", *programs):
        assert (recipe / name).is_file(), name
    for name in programs:
        assert (recipe / name).stat().st_mode & 0o111, f"{name} is not executable"
    assert not any(path.is_symlink() for path in recipe.glob("*"))


@recipes
def test_run_sh_is_one_call(recipe):
    lines = (recipe / "run.sh").read_text().replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    assert commands[1].startswith("cd -- ")
    # In its place: a signal to the process of run.sh is one to the recipe.
    assert commands[2].startswith(f"exec ./{task_of(recipe).name}.sh ")
    assert len(commands) == 3


@recipes
def test_options_and_configurations_are_legal(recipe):
    options, task = options_of(recipe), task_of(recipe)

    def load(*argv):
        load_recipe(parse_options([*options, *argv], task=task.name), recipe)

    load()
    for path in recipe.glob("conf/**/train*.yaml"):
        file = str(path.relative_to(recipe))
        if path.name.startswith("train_lm"):
            load("--use_lm", "true", "--lm_config", file)
            continue
        for overlay in OVERLAYS:
            load(f"--{task.model}_config", file, "--attention", overlay.stem)
        for overlay in FRONTENDS if task.speech else []:
            load(f"--{task.model}_config", file, "--frontend", overlay.stem)
    for path in recipe.glob("conf/**/decode*.yaml"):
        load("--inference_config", str(path.relative_to(recipe)))


@recipes
def test_encoders_attend_by_sdpa(recipe):
    for path in recipe.glob("conf/**/train*.yaml"):
        config = load_yaml(path)
        assert config["encoder_conf"]["use_sdpa"] is True, path


@recipes
def test_no_frontend_makes_results_depend_on_the_batch(recipe):
    for path in recipe.glob("conf/**/train*.yaml"):
        config = load_yaml(path)
        assert (
            not task_of(recipe).speech
            or config.get("frontend", "default") != "default"
            or path.stem.endswith("_stored")  # of features in files, which have no front end
            or (config["frontend_conf"]["center"] is False)
        ), path
        assert config.get("num_att_plot") == 0, path


@recipes
def test_the_readme_has_measured_results_or_says_that_there_are_none(recipe):
    text = (recipe / "README.md").read_text(encoding="utf-8")
    results = text.partition("## Results")[2]
    if results.strip() == "None measured yet.":
        return
    assert re.search(r"(WER|CER|BLEU|ROUGE)", results) and re.search(r"\d", results), recipe
    assert "CPU" in results or "GPU" in results, "say on what machine"


def test_shell_files_are_clean():
    done = subprocess.run(
        [CHECKOUT / "tools/lint_shell.sh"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def checkout(tmp_path):
    """A checkout with what new_recipe.sh and a recipe's stages read."""
    examples = [path.relative_to(CHECKOUT) for path in CHECKOUT.glob("egs2/*/*1/conf")]
    for name in ("egs2/TEMPLATE", "conf", *examples):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    (tmp_path / "tools").mkdir()
    shutil.copy2(CHECKOUT / "tools/new_recipe.sh", tmp_path / "tools")
    return tmp_path


def new_recipe(checkout, *argv):
    return subprocess.run(
        [checkout / "tools/new_recipe.sh", *argv], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_new_recipe_passes_these_tests(checkout, task):
    done = new_recipe(checkout, "my-corpus", task)
    assert done.returncode == 0, done.stderr
    recipe = checkout / f"egs2/my-corpus/{task}1"
    test_a_recipe_has_its_files(recipe)
    test_run_sh_is_one_call(recipe)
    test_options_and_configurations_are_legal(recipe)
    test_no_frontend_makes_results_depend_on_the_batch(recipe)
    test_the_readme_has_measured_results_or_says_that_there_are_none(recipe)
    shells = [*recipe.glob("*.sh"), recipe / "local/data.sh"]
    lint = [Path(sys.executable).parent / "shellcheck", "-x", "--source-path=SCRIPTDIR", *shells]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any("@" in path.read_text().replace("$@", "") for path in shells)


@pytest.mark.parametrize("task", TASKS)
def test_a_new_recipe_trains_mtla_by_a_schedule_that_ends_with_the_training(checkout, task):
    new_recipe(checkout, "my-corpus", task)
    paths = list(checkout.glob(f"egs2/my-corpus/{task}1/conf/train_*.yaml"))
    assert len(paths) == (2 if task in ("asr", "st") else 1)  # one begins with a Whisper
    for path in paths:
        config = load_yaml(path)
        assert config["decoder_conf"]["attention"] == "mtla"
        updates = config["num_iters_per_epoch"] * config["max_epoch"]
        steps = config["scheduler_conf"]["warmup_steps_list"]
        rates = config["scheduler_conf"]["warmup_lr_list"]
        assert rates[steps.index(updates)] < 0.1 * max(rates)


@pytest.mark.parametrize("task", ["asr", "st"])
def test_a_new_recipe_offers_the_pretrained_encoder_first(checkout, task):
    done = new_recipe(checkout, "my-corpus", task)
    (command,) = re.findall(r"^  \./run\.sh (.*)$", done.stdout, re.MULTILINE)
    assert done.stdout.index(command) < done.stdout.index("from scratch: ./run.sh")
    recipe = checkout / f"egs2/my-corpus/{task}1"
    readme = (recipe / "README.md").read_text()
    assert readme.index(command) < readme.index("# from scratch")
    words = command.split()
    assert (recipe / words[words.index(f"--{task}_config") + 1]).is_file()


def test_the_languages_of_a_new_recipe(checkout):
    new_recipe(checkout, "a", "st", "fr", "en")
    recipe = checkout / "egs2/a/st1"
    text = (recipe / "run.sh").read_text()
    assert "--lang fr_en" in text and "--src_lang fr " in text and "--tgt_lang en " in text
    assert "text.lc.rm.fr and text.tc.en" in (recipe / "local/data.sh").read_text()
    new_recipe(checkout, "a", "asr", "pt-BR")
    assert "--lang pt-BR " in (checkout / "egs2/a/asr1/run.sh").read_text()


def test_a_new_recipe_asks_for_its_corpus(checkout):
    new_recipe(checkout, "my-corpus", "asr")
    recipe = checkout / "egs2/my-corpus/asr1"
    environment = {**os.environ, "python": sys.executable, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        ["./run.sh"], cwd=recipe, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Fill the value of 'MY_CORPUS' of db.sh" in done.stderr


@pytest.mark.parametrize("task", TASKS)
def test_the_data_of_a_new_recipe_come_of_a_table(checkout, task, tmp_path):
    new_recipe(checkout, "my-corpus", task)
    recipe = checkout / f"egs2/my-corpus/{task}1"
    (recipe / "db.sh").write_text(f"MY_CORPUS={tmp_path / 'none.csv'}\n")
    environment = {**os.environ, "python": sys.executable, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        ["local/data.sh"], cwd=recipe, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"error: {tmp_path / 'none.csv'}: no such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ([], 2, "usage: tools/new_recipe.sh CORPUS TASK [LANGUAGE [LANGUAGE]]"),
        (["a", "asr", "en", "de", "fr"], 2, "usage"),
        (["a", "asr", "e n"], 2, "error: a language is a code such as en, not 'e n'"),
        (["a", "asr", "fr", "en"], 2, "error: asr has one language, not two: fr, en"),
        (["a", "st", "fr"], 2, "error: st needs two languages"),
        (["a", "st", "fr", "fr"], 2, "error: st: fr is the spoken and the written language"),
        (["a"], 2, "usage"),
        (["a", "tts"], 2, "error: no template for the task 'tts': asr, st, slu and sum"),
        (["../a", "asr"], 2, "error: a corpus has letters, digits"),
        (["smarthome", "asr"], 1, "error: egs2/smarthome/asr1 exists already"),
    ],
)
def test_no_recipe_is_made_of_a_mistake(checkout, argv, code, message):
    before = sorted(checkout.rglob("*"))
    done = new_recipe(checkout, *argv)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1
    assert sorted(checkout.rglob("*")) == before
