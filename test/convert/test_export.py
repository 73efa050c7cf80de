"""`mtla-espnet export`: what is written, and which models are refused."""

import zipfile

import pytest
import yaml

from mtla_espnet.cli import main
from mtla_espnet.json_files import read_json
from small_models import save_model

pytestmark = pytest.mark.espnet


def refused(capsys, *arguments):
    assert main(["export", "hf", *map(str, arguments)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err


@pytest.mark.parametrize("task, use", [("asr", "Speech2Text"), ("slu", "Speech2Understand")])
def test_a_model_of_speech_is_refused_with_what_to_use(tmp_path, capsys, task, use):
    experiment = save_model(tmp_path / "exp", task, "mtla")
    line = refused(capsys, experiment, tmp_path / "out")
    assert f"{experiment}: is of " in line
    assert f"Use mtla_espnet.{use}.from_pretrained('{experiment}')" in line
    assert not (tmp_path / "out").exists()


def test_what_is_written_names_no_machine(tmp_path):
    experiment = save_model(tmp_path / "exp", "sum", "mtla", output_dir=str(tmp_path / "somewhere"))
    out = tmp_path / "out"
    assert main(["export", "hf", str(experiment), str(out)]) == 0
    files = {path.name for path in out.iterdir()}
    wanted = {"config.json", "generation_config.json", "model.safetensors", "tokens.json"}
    assert files == wanted | {"tokenizer_config.json"}
    for path in out.glob("*.json"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8"), path.name
    assert read_json(out / "config.json")["model_type"] == "mtla_text2text"


def test_a_pack_is_exported_as_the_experiment_is(tmp_path):
    experiment = save_model(tmp_path / "exp", "sum", "mtla")
    pack = tmp_path / "pack.zip"
    meta = {
        "yaml_files": {"mt_train_config": "exp/config.yaml"},
        "files": {"mt_model_file": "exp/valid.acc.ave.pth"},
    }
    with zipfile.ZipFile(pack, "w") as archive:
        archive.writestr("meta.yaml", yaml.safe_dump(meta))
        for path in experiment.iterdir():
            archive.write(path, f"exp/{path.name}")
    outs = [tmp_path / "of_pack", tmp_path / "of_experiment"]
    for source, out in zip((pack, experiment), outs, strict=True):
        assert main(["export", "hf", str(source), str(out)]) == 0
    for path in outs[0].iterdir():
        assert path.read_bytes() == (outs[1] / path.name).read_bytes(), path.name


def test_what_cannot_be_exported_is_one_line(tmp_path, capsys):
    experiment = save_model(tmp_path / "exp", "sum", "mtla")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    assert "is there already" in refused(capsys, experiment, tmp_path / "taken")
    missing = tmp_path / "nowhere"
    assert f"{missing}: no directory or zip file" in refused(capsys, missing, tmp_path / "out")
    kept = {"beam_size": 2, "lm_train_config": "lm.yaml", "lm_file": "lm.pth"}
    for name in ("lm.yaml", "lm.pth"):
        (experiment / name).touch()
    (experiment / "inference.yaml").write_text(yaml.safe_dump(kept))
    line = refused(capsys, experiment, tmp_path / "out")
    assert "decodes with lm_train_config, and a model alone is exported" in line
    config = experiment / "config.yaml"
    config.write_text(config.read_text().replace("src_token_type: char", "src_token_type: phn"))
    line = refused(capsys, experiment, tmp_path / "out")
    assert "src_token_type: phn is not exported: bpe, char, word are" in line
    assert not (tmp_path / "out").exists()
