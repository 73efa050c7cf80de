"""Every recipe of egs2: its files are there, its options and YAML keys exist, it runs."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from mtla_espnet.config import load_yaml
from mtla_espnet.stages.options import parse_options
from mtla_espnet.stages.recipe import load_recipe

CHECKOUT = Path(__file__).resolve().parents[1]
RECIPES = sorted(
    path for path in CHECKOUT.glob("egs2/*/*") if path.is_dir() and path.parent.name != "TEMPLATE"
)
NAMES = [str(path.relative_to(CHECKOUT / "egs2")) for path in RECIPES]
OVERLAYS = sorted((CHECKOUT / "conf/attention").glob("*.yaml"))
recipes = pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)


def options_of(recipe):
    """The options that run.sh gives."""
    script = (recipe / "run.sh").read_text().replace("\\\n", " ")
    (call,) = re.findall(r"^\./\w+\.sh (.*)$", script, re.MULTILINE)
    words = shlex.split(call)
    assert words.pop() == "$@", "the user's options come last"
    return words


def test_there_are_recipes():
    assert {"mini_an4/asr1", "smarthome/asr1"} <= set(NAMES)


@recipes
def test_a_recipe_has_its_files(recipe):
    for name in ("README.md", "run.sh", "asr.sh", "path.sh", "cmd.sh", "db.sh", "local/data.sh"):
        assert (recipe / name).is_file(), name
    for name in ("run.sh", "asr.sh", "local/data.sh"):
        assert (recipe / name).stat().st_mode & 0o111, f"{name} is not executable"
    assert not any(path.is_symlink() for path in recipe.glob("*"))


@recipes
def test_run_sh_is_one_call(recipe):
    lines = (recipe / "run.sh").read_text().replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    assert commands[1].startswith("cd -- ")
    assert len(commands) == 3


@recipes
def test_options_and_configurations_are_legal(recipe):
    options = options_of(recipe)
    load_recipe(parse_options(options), recipe)
    for path in recipe.glob("conf/**/train*.yaml"):
        argv = [*options, "--asr_config", str(path.relative_to(recipe))]
        for overlay in OVERLAYS:
            load_recipe(parse_options([*argv, "--attention", overlay.stem]), recipe)
    for path in recipe.glob("conf/**/decode*.yaml"):
        argv = [*options, "--inference_config", str(path.relative_to(recipe))]
        load_recipe(parse_options(argv), recipe)


@recipes
def test_no_frontend_makes_results_depend_on_the_batch(recipe):
    for path in recipe.glob("conf/**/train*.yaml"):
        config = load_yaml(path)
        assert config.get("frontend", "default") != "default" or (
            config["frontend_conf"]["center"] is False
        ), path
        assert config.get("num_att_plot") == 0, path


@recipes
def test_the_readme_has_measured_results(recipe):
    text = (recipe / "README.md").read_text(encoding="utf-8")
    results = text.partition("## Results")[2]
    assert re.search(r"(WER|CER)", results) and re.search(r"\d", results), recipe
    assert "CPU" in results or "GPU" in results, "say on what machine"


def test_shell_files_are_clean():
    done = subprocess.run(
        [CHECKOUT / "tools/lint_shell.sh"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_recipe_is_made_once(tmp_path):
    for name in ("TEMPLATE", "mini_an4"):
        source = CHECKOUT / "egs2" / name / "asr1"
        for path in source.rglob("*"):
            inner = path.relative_to(CHECKOUT)
            if path.is_file() and not {"data", "dump", "exp", "downloads"} & set(inner.parts):
                target = tmp_path / inner
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
                target.chmod(path.stat().st_mode)
    setup = tmp_path / "egs2/TEMPLATE/asr1/setup.sh"

    def call(*argv):
        return subprocess.run([setup, *argv], capture_output=True, text=True, check=False)

    new = tmp_path / "egs2/new/asr1"
    done = call(str(new))
    assert done.returncode == 0, done.stderr
    assert (new / "run.sh").stat().st_mode & 0o111
    assert (new / "conf/train_asr.yaml").is_file() and (new / "local/data.sh").is_file()
    assert call(str(new)).returncode == 1
    assert "exists already" in call(str(new)).stderr
    assert call(str(tmp_path / "elsewhere/asr1")).returncode == 2
    assert call().returncode == 2
