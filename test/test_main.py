import runpy
import subprocess
import sys

import pytest


def run(*arguments):
    command = [sys.executable, "-m", "mtla_espnet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.espnet
def test_an_espnet_program_runs_as_main_with_our_classes():
    finished = run("-m", "espnet2.bin.asr_train", "--print_config", "--decoder", "decoder_only")
    assert finished.returncode == 0, finished.stderr
    assert "\ndecoder: decoder_only\n" in finished.stdout
    # The program sees the arguments that `python -m espnet2.bin.asr_train` would give it.
    assert "espnet2/bin/asr_train.py --print_config --decoder decoder_only\n" in finished.stderr


@pytest.mark.espnet
def test_programs_that_load_no_model_start_without_our_classes():
    # If a new ESPnet loads a model there, ours must be known to it.
    code = (
        "import importlib, sys; from mtla_espnet.__main__ import WITHOUT_MODELS\n"
        "for module in WITHOUT_MODELS: importlib.import_module(module)\n"
        "print(sorted(name for name in sys.modules if name.startswith('espnet2.tasks')))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.stdout.strip() == "[]", finished.stderr


@pytest.mark.espnet
def test_the_exit_code_of_an_espnet_program_is_ours():
    finished = run("-m", "espnet2.bin.asr_train", "--decoder", "nonsense")
    assert finished.returncode == 2
    assert "invalid choice: 'nonsense'" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "espnet2.bin.nonsense"], "error: no module named espnet2.bin.nonsense"),
        (["-m", "nonsense.bin"], "error: no module named nonsense.bin"),
        (["-m"], "error: -m needs the name of a module, such as espnet2.bin.asr_train"),
    ],
)
def test_a_wrong_module_is_one_line(arguments, message):
    finished = run(*arguments)
    assert (finished.returncode, finished.stderr.strip()) == (1, message)


def test_other_arguments_go_to_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mtla_espnet", "--help"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("mtla_espnet", run_name="__main__")
    assert not caught.value.code
    assert "transcribe" in capsys.readouterr().out
