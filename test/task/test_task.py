"""Recipes of each task through all stages, on a corpus of noise and a few words."""

import importlib
import json

import numpy as np
import pytest
import soundfile
import yaml

from mtla_espnet import cli
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import help_text
from mtla_espnet.runner.runner import run_recipe
from mtla_espnet.task import TASKS, task_named
from mtla_espnet.task.option import Option
from mtla_espnet.task.record import Task, TaskText
from quick_training import QUICK_TRAINING

RATE_HZ = 8000
ENGLISH = ["on off", "up", "off down up", "down on"]
GERMAN = ["An aus", "Auf", "Aus ab auf", "Ab an"]
INTENTS = ["light_set", "lift_up", "light_set", "lift_down"]
SETS = {"train": 8, "dev": 2, "test": 3}
# A task that is no more than its record: speech to simple words, by ESPnet's ASR program.
PLAIN = Task(
    name="plain",
    model="asr",
    does="speech to simple words",
    verb=("simplify", "turn sound files into simple words"),
    speech=True,
    texts=(TaskText("text", "", "text.{degree}"),),
    inference="mtla_espnet.inference.speech2text:Speech2Text",
    espnet_inference="Speech2Text",
    hub_tag="simplification",
    options={"Data": (Option("degree", "very", "How simple the words are."),)},
)
TABLES = {
    "plain": {"text": ENGLISH, "text.very": GERMAN},
    "asr": {"text": ENGLISH},
    "st": {"text": ENGLISH, "text.lc.rm.en": ENGLISH, "text.tc.de": GERMAN},
    "slu": {"text": [f"{a} {b}" for a, b in zip(INTENTS, ENGLISH, strict=True)]},
    "sum": {"text": GERMAN, "src_text": [f"{words} {words}" for words in ENGLISH]},
}
MODEL_CONF = {
    "plain": {"ctc_weight": 0.3},
    "asr": {"ctc_weight": 0.3},
    "st": {"asr_weight": 0.3, "mtlalpha": 1.0},
    "slu": {"ctc_weight": 0.3},
    "sum": {},
}
OPTIONS = {
    "plain": ["--token_type", "char", "--fs", "8k"],
    "asr": ["--token_type", "char", "--fs", "8k"],
    "st": [
        *("--src_lang", "en", "--tgt_lang", "de", "--lang", "en_de", "--fs", "8k"),
        *("--src_token_type", "char", "--tgt_token_type", "bpe", "--tgt_nbpe", "14"),
        *("--speed_perturb_factors", "0.9 1.0"),
    ],
    "slu": ["--token_type", "word", "--fs", "8k"],
    "sum": ["--tgt_token_type", "char", "--token_joint", "true"],
}
EXPECTED = {
    "plain": "asr_train_raw_8k_char_mtla",
    "asr": "asr_train_raw_8k_char_mtla",
    "st": "st_train_raw_8k_en_de_bpe_tc14_mtla_sp",
    "slu": "slu_train_raw_8k_word_mtla",
    "sum": "mt_train_raw_char_mtla",
}
RESULT = {
    "plain": "score_wer/result.txt",
    "asr": "score_wer/result.txt",
    "st": "score_bleu/result.tc.txt",
    "slu": "score_wer/result.txt",
    "sum": "score_rouge/result.sum",
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    directory = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(0)
    for name, count in SETS.items():
        for number in range(count):
            samples = random.uniform(-0.5, 0.5, 3000 + 700 * number)
            soundfile.write(directory / f"{name}-{number}.wav", samples, RATE_HZ)
    return directory


def make_recipe(root, recordings, task):
    """Write data directories, what stage 1 runs, and a configuration as small as can be."""
    for name, count in SETS.items():
        keys = [f"{name}-{number}" for number in range(count)]
        for table, lines in TABLES[task].items():
            texts = {key: lines[number % len(lines)] for number, key in enumerate(keys)}
            write_table(root / "data" / name / table, texts)
        if task_named(task).speech:
            wavs = {key: recordings / f"{key}.wav" for key in keys}
            write_table(root / "data" / name / "wav.scp", wavs)
            write_table(root / "data" / name / "utt2spk", dict.fromkeys(keys, name))
            write_table(root / "data" / name / "spk2utt", {name: " ".join(keys)})
    (root / "local").mkdir()
    (root / "local/data.sh").write_text("#!/bin/sh\n")
    (root / "local/data.sh").chmod(0o755)
    small = {"attention_heads": 2, "linear_units": 8, "num_blocks": 1}
    config = {
        "encoder_conf": {"output_size": 8, **small},
        "decoder": "decoder_only",
        "decoder_conf": small,
        "model_conf": MODEL_CONF[task],
        "optim": "adam",
        "batch_size": 8,
        **QUICK_TRAINING,
    }
    if task_named(task).speech:
        frontend = {"n_fft": 256, "hop_length": 80, "n_mels": 20, "center": False}
        config |= {"encoder": "conv1d_conformer", "frontend_conf": frontend}
    else:
        config |= {"encoder": "transformer", "frontend_conf": {"embed_dim": 8}}
        config["encoder_conf"]["input_layer"] = "linear"
    (root / "train.yaml").write_text(yaml.safe_dump(config))
    overlay = {"decoder_conf": {"attention": "mtla"}}
    (root / "mtla.yaml").write_text(yaml.safe_dump(overlay))


def arguments(task):
    model = task_named(task).model
    return [
        *("--train_set", "train", "--valid_set", "dev", "--test_sets", "test"),
        *(
            "--use_lm",
            "false",
            "--skip_packing",
            "false",
            "--ngpu",
            "0",
            "--nj",
            "2",
            "--inference_nj",
            "1",
        ),
        *(f"--{model}_config", "train.yaml", "--attention", "mtla.yaml"),
        *("--inference_args", "--beam_size 2 --ctc_weight 0.0", "--inference_tag", "now"),
        *OPTIONS[task],
    ]


def assert_packed(path, exp_dir, task):
    """The pack gives what the experiment's directory gives, and ESPnet's class takes it."""
    from espnet2.main_funcs.pack_funcs import unpack

    from mtla_espnet.inference.models import model_class

    model = task_named(task).model
    whole = model_class(task).from_pretrained(exp_dir, beam_size=2, ctc_weight=0.0)
    packed = model_class(task).from_pretrained(path, beam_size=2, ctc_weight=0.0)
    example = [whole.example()]
    assert packed.decode_prepared(example)[0][0][:3] == whole.decode_prepared(example)[0][0][:3]
    program = importlib.import_module(f"espnet2.bin.{model}_inference")
    files = unpack(path, exp_dir / "unpacked")
    peer = getattr(program, task_named(task).espnet_inference)(**files, beam_size=2, ctc_weight=0.0)
    assert len(getattr(peer, f"{'asr' if model == 'slu' else model}_model").token_list) > 3


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setitem(TASKS, PLAIN.name, PLAIN)


@pytest.mark.espnet
@pytest.mark.parametrize("task", [*TASKS, PLAIN.name])
@pytest.mark.usefixtures("plain")
def test_a_recipe_runs_and_is_done_when_run_again(task, recordings, tmp_path, monkeypatch, capsys):
    make_recipe(tmp_path, recordings, task)
    monkeypatch.chdir(tmp_path)
    run_recipe(arguments(task), task=task)
    said = capsys.readouterr().out
    assert f"({task}.sh:" in said
    exp_dir = tmp_path / "exp" / EXPECTED[task]
    assert len(read_table(exp_dir / "now/test/text")) == SETS["test"]
    cost = json.loads((exp_dir / "now/test/efficiency.json").read_text())
    assert (cost["attention"], cost["utterances"]) == ("mtla", SETS["test"])
    config = yaml.safe_load((exp_dir / "config.yaml").read_text())
    assert config["token_list"][-1] == "<sos/eos>"
    assert (exp_dir / "now/test" / RESULT[task]).is_file()
    assert "### " in (exp_dir / "RESULTS.md").read_text()
    assert (exp_dir / "run.sh").read_text().splitlines()[1].startswith(f"exec ./{task}.sh ")
    assert_packed(exp_dir / f"{EXPECTED[task]}_valid.acc.ave.zip", exp_dir, task)
    run_recipe(arguments(task), task=task)
    again = capsys.readouterr().out.splitlines()
    stages = [line for line in again if ") Stage " in line]
    assert len(stages) == 15 and all("skipped" in line for line in stages), again
    assert f"mtla-espnet {task_named(task).verb[0]} --model" in again[-2]


@pytest.mark.espnet
def test_translation_begins_with_the_encoder_of_a_recogniser(recordings, tmp_path, monkeypatch):
    import torch

    weights = {}
    for task in ("asr", "st"):
        root = tmp_path / task
        root.mkdir()
        make_recipe(root, recordings, task)
        monkeypatch.chdir(root)
        more = ["--stop_stage", "11"]
        if task == "st":
            file = tmp_path / "asr/exp" / EXPECTED["asr"] / "1epoch.pth"
            more += ["--pretrained_asr", f"{file}:encoder:encoder", "--st_tag", "warm"]
            more += ["--st_args", "--optim_conf lr=0.0"]
        run_recipe([*arguments(task), *more], task=task)
        exp_dir = root / "exp" / (EXPECTED["asr"] if task == "asr" else "st_warm")
        weights[task] = torch.load(exp_dir / "1epoch.pth", weights_only=True)
    compared = 0
    for name, value in weights["asr"].items():
        # batch normalisation goes on counting what it sees
        if name.startswith("encoder.") and "running" not in name and "num_batches" not in name:
            assert weights["st"][name].equal(value), name
            compared += 1
    assert compared > 10


@pytest.mark.parametrize(
    ("task", "table", "lines", "message"),
    [
        ("st", "text.tc.de", None, r"text.tc.de is missing|text.tc.de: no such file|without .*"),
        ("st", "text.tc.de", ["a"], "utterance lists extracted from utt2spk and text.tc.de differ"),
        ("sum", "src_text", ["a"], "utterance lists extracted from text and src_text differ"),
        ("sum", "text", ["a <s>"] * 8, "text contains illegal symbol '<s>'"),
    ],
)
def test_sets_that_do_not_fit(task, table, lines, message, recordings, tmp_path):
    make_recipe(tmp_path, recordings, task)
    path = tmp_path / "data/train" / table
    if lines is None:
        path.unlink()
    else:
        write_table(path, {f"train-{number}": line for number, line in enumerate(lines)})
    with pytest.raises(UserError, match=message):
        run_recipe([*arguments(task), "--stop_stage", "1"], tmp_path, task)
    assert not (tmp_path / "data/.done.1").exists()


def test_text_is_counted_when_it_is_left_out(recordings, tmp_path, capsys):
    make_recipe(tmp_path, recordings, "sum")
    table = read_table(tmp_path / "data/train/src_text")
    write_table(tmp_path / "data/train/src_text", table | {"train-1": "", "train-3": "a  b"})
    options = ["--max_src_words", "4", "--max_tgt_words", "2", "--stop_stage", "4"]
    run_recipe([*arguments("sum"), *options], tmp_path, "sum")
    said = capsys.readouterr().out
    assert "Stage 2: skipped (text has no speed)" in said
    counts = "1 empty, 2 with a long source"
    assert f"train: 5 texts kept; left out: {counts}" in said
    kept = read_table(tmp_path / "dump/raw/train/src_text")
    assert kept["train-3"] == "a b"
    # what is written is modelled whole, as in stage 4 of speech
    assert "train-1" in read_table(tmp_path / "dump/raw/lm_train.txt")


@pytest.mark.usefixtures("plain")
def test_a_record_is_all_that_a_task_needs(capsys):
    assert "--degree" in help_text(task="plain")
    assert "--degree" not in help_text(task="asr")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "turn sound files into simple words" in capsys.readouterr().out


def test_the_task_must_exist():
    with pytest.raises(UserError, match="unknown task 'tts'; there are asr, st, slu, sum"):
        task_named("tts")
