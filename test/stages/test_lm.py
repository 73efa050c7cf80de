"""Stages 6 to 8: the text, the training and the perplexity of a language model."""

import subprocess
import sys
from pathlib import Path

import pytest

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.recipe.load import load_recipe
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages import s06_lm_stats, s07_lm_train, s08_perplexity
from mtla_espnet.stages.shared.training import goes_on_from, remove_products, save_arguments

CHECKOUT = Path(__file__).resolve().parents[2]
ARGV = [
    *("--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--ngpu", "0"),
    *("--token_type", "char", "--nj", "2", "--lm_config", "conf/train_lm.yaml", "--lm_tag", "a"),
]
CONFIG = """
lm_conf: {unit: 8, nlayers: 1}
batch_type: unsorted
batch_size: 2
max_epoch: 3
keep_nbest_models: 2
best_model_criterion: [[valid, loss, min]]
num_workers: 0
"""
WORDS = ["ON OFF", "UP", "OFF DOWN UP", "DOWN ON", "UP UP ON"]


@pytest.fixture
def root(tmp_path):
    text = {f"utt{number}": words for number, words in enumerate(WORDS)}
    write_table(tmp_path / "dump/raw/lm_train.txt", text)
    write_table(tmp_path / "dump/raw/org/dev/text", {"dev1": "ON UP", "dev2": "", "dev3": "OFF"})
    write_table(tmp_path / "dump/raw/test/text", {"test1": "UP OFF", "test2": "", "test3": "ON"})
    letters = sorted(set("".join(WORDS)) - {" "})
    tokens = ["<blank>", "<unk>", "<space>", *letters, "<sos/eos>"]
    token_list = tmp_path / "data/token_list/char/tokens.txt"
    token_list.parent.mkdir(parents=True)
    token_list.write_text("".join(f"{token}\n" for token in tokens))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/train_lm.yaml").write_text(CONFIG)
    return tmp_path


def run(root, *argv):
    done = subprocess.run(
        [sys.executable, "-m", "mtla_espnet", "recipe", "asr", *ARGV, *argv],
        cwd=root,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def perplexity(exp_dir, lines):
    """exp of the mean of -log p(token | tokens before), `<sos/eos>` counted, by a plain loop."""
    import torch
    from espnet2.tasks.lm import LMTask

    model, _ = LMTask.build_model_from_file(
        exp_dir / "config.yaml", exp_dir / "valid.loss.ave.pth", "cpu"
    )
    tokens = (exp_dir / "../../data/token_list/char/tokens.txt").read_text().split()
    eos, surprises = len(tokens) - 1, []
    for line in lines:
        ids = [tokens.index("<space>" if letter == " " else letter) for letter in line]
        scores, _ = model.eval().lm(torch.tensor([[eos, *ids]]), None)
        for position, target in enumerate([*ids, eos]):
            surprises.append(-scores[0, position].log_softmax(-1)[target])
    return torch.stack(surprises).mean().exp().item()


@pytest.mark.espnet
def test_a_language_model_is_trained_goes_on_and_is_measured(root):
    import torch

    out = run(root, "--stage", "6", "--stop_stage", "8")
    stats, exp_dir = root / "exp/lm_stats_char", root / "exp/lm_a"
    assert read_table(stats / "valid/text") == {"dev1": "ON UP", "dev3": "OFF"}
    assert read_table(stats / "train/text_shape.char") == {
        f"utt{number}": f"{len(words)},{3 + 7 + 1}" for number, words in enumerate(WORDS)
    }
    assert len(list((stats / "logdir").glob("stats.*.log"))) == 2
    assert read_table(exp_dir / "perplexity_test/text") == {"test1": "UP OFF", "test3": "ON"}
    found = float((exp_dir / "perplexity_test/ppl").read_text())
    assert found == pytest.approx(perplexity(exp_dir, ["UP OFF", "ON"]), rel=1e-5)
    assert f"Perplexity: {found:.2f} (exp/lm_a/perplexity_test/ppl)" in out

    again = run(root, "--stage", "6", "--stop_stage", "8")
    assert again.count("done already, skipped") == 3

    # In two runs: two epochs, then the third from the checkpoint.
    seventh = ("--stage", "7", "--stop_stage", "7", "--lm_tag", "b", "--lm_args")
    run(root, *seventh, "--max_epoch 2")
    run(root, *seventh, "--max_epoch 3")
    whole = torch.load(exp_dir / "3epoch.pth", weights_only=True)
    resumed = torch.load(root / "exp/lm_b/3epoch.pth", weights_only=True)
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_force_removes_an_earlier_training(tmp_path):
    for name in ("a.pth", "train.log", "run.sh", "images/a.png", "att_ws/x/1ep.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link.pth").symlink_to("a.pth")
    remove_products(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.sh"]


def recipe(root, *argv):
    return Recipe(parse_options([*ARGV, *argv]), root)


def test_the_texts_are_those_of_the_sets_or_those_that_are_given(root):
    (stats,) = s06_lm_stats.parts(recipe(root))
    assert stats.inputs[root / "dump/raw/lm_train.txt"] == 4
    assert stats.inputs[root / "dump/raw/org/dev/text"] == 3
    (ppl,) = s08_perplexity.parts(recipe(root))
    assert ppl.inputs[root / "dump/raw/test/text"] == 3
    (ppl,) = s08_perplexity.parts(recipe(root, "--test_sets", "dev"))
    assert ppl.inputs[root / "dump/raw/org/dev/text"] == 3
    given = recipe(root, "--lm_train_text", "a b", "--lm_dev_text", "c", "--lm_test_text", "d")
    (stats,) = s06_lm_stats.parts(given)
    assert [path.name for path, made in stats.inputs.items() if made == 0] == ["a", "b", "c"]
    (ppl,) = s08_perplexity.parts(given)
    assert root / "d" in ppl.inputs


def test_texts_are_joined_without_empty_lines(tmp_path):
    for name, lines in (("a", {"1": "ON", "2": ""}), ("b", {"3": "OFF"}), ("c", {"1": "X"})):
        write_table(tmp_path / name, lines)
    assert s06_lm_stats.join_text([tmp_path / "a", tmp_path / "b"]) == {"1": "ON", "3": "OFF"}
    with pytest.raises(UserError, match="c: id '1' is also in another text of the same set"):
        s06_lm_stats.join_text([tmp_path / "a", tmp_path / "c"])
    write_table(tmp_path / "d", {"1": ""})
    with pytest.raises(UserError, match="d: no line has words"):
        s06_lm_stats.join_text([tmp_path / "d"])


@pytest.mark.parametrize(
    ("text", "argv", "message"),
    [
        ("lm_conf: {unitt: 3}\n", [], r"conf/train_lm.yaml: unknown key 'lm_conf.unitt' .*'unit'"),
        ("lm: rnn\n", [], "conf/train_lm.yaml: lm: unknown 'rnn'"),
        ("encoder: x\n", [], "conf/train_lm.yaml: unknown key 'encoder'"),
        ("", ["--lm_args", "--lm_config x"], "--lm_args: unknown key 'lm_config'"),
        ("max_epoch: three\n", [], "max_epoch must be a whole number, not 'three'"),
        ("optim_conf: {lr: 1e-3}\n", [], "optim_conf.lr: YAML reads 1e-3 as text"),
    ],
)
def test_a_bad_configuration_is_named_before_the_first_stage(root, text, argv, message):
    (root / "conf/train_lm.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_recipe(parse_options([*ARGV, *argv]), root)
    load_recipe(parse_options([*ARGV, *argv, "--use_lm", "false"]), root)


def test_no_more_models_are_averaged_than_there_are_epochs(root):
    (root / "conf/train_lm.yaml").write_text("max_epoch: 3\nkeep_nbest_models: [1, 4, 9]\n")
    recipe = load_recipe(parse_options(ARGV), root)
    assert recipe.lm_config["keep_nbest_models"] == [1, 3]
    (note,) = recipe.notes
    assert "conf/train_lm.yaml: keep_nbest_models: 9 is more than max_epoch: 3, so 3" in note
    (part,) = s07_lm_train.parts(recipe)
    assert s07_lm_train.commands(recipe, part)[0].endswith(" --keep_nbest_models 1 3")


def test_decoding_is_told_of_the_language_model(root):
    config = load_recipe(parse_options(ARGV), root).inference_config
    assert config == {
        "lm_train_config": str(root / "exp/lm_a/config.yaml"),
        "lm_file": str(root / "exp/lm_a/valid.loss.ave.pth"),
    }


def test_a_training_goes_on_from_its_first_epochs_middle_too(tmp_path):
    checkpoint, midway = tmp_path / "checkpoint.pth", tmp_path / "midway.pth"
    assert goes_on_from(tmp_path) == checkpoint
    midway.touch()
    assert goes_on_from(tmp_path) == midway
    checkpoint.touch()
    assert goes_on_from(tmp_path) == checkpoint


def test_saves_inside_an_epoch_are_an_option(root):
    def arguments(updates):
        options = parse_options([*ARGV, "--save_interval_updates", updates])
        return save_arguments(load_recipe(options, root))

    assert arguments("0") == []
    assert arguments("500") == ["--save_interval_updates", "500"]
