"""A trained model from elsewhere becomes an experiment of the recipe."""

import zipfile
from pathlib import Path

import pytest
import yaml

from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.runner import download
from mtla_espnet.runner.download import use_downloaded
from mtla_espnet.runner.runner import run_recipe
from mtla_espnet.trust import files_trusted

ARGV = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test"]
TOKENS = ["<blank>", "<unk>", "▁A", "B", "<sos/eos>"]
CONFIG = {"token_list": TOKENS, "token_type": "bpe", "bpemodel": "data/bpe.model"}


def write_pack(path, model=b"weights", lm=True, task="asr", config=CONFIG):
    """Write what ESPnet's `pack` writes, of a model that is no model."""
    meta = {
        "yaml_files": {f"{task}_train_config": "exp/asr/config.yaml"},
        "files": {f"{task}_model_file": "exp/asr/9epoch.pth"},
    }
    members = {
        "exp/asr/config.yaml": yaml.safe_dump(config).encode(),
        "exp/asr/9epoch.pth": model,
        "data/bpe.model": b"pieces",
    }
    if lm:
        meta["yaml_files"]["lm_train_config"] = "exp/lm/config.yaml"
        meta["files"]["lm_file"] = "exp/lm/2epoch.pth"
        lm_config = yaml.safe_dump({"token_list": TOKENS}).encode()
        members |= {"exp/lm/config.yaml": lm_config, "exp/lm/2epoch.pth": b"lm"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.yaml", yaml.safe_dump(meta))
        for name, content in members.items():
            archive.writestr(name, content)


def used(root, name, *argv):
    options = parse_options([*ARGV, "--download_model", name, *argv])
    use_downloaded(options, root, [12, 13])
    return Recipe(options, root)


@pytest.mark.parametrize("lm", [True, False])
def test_a_pack_is_laid_out_as_an_experiment(tmp_path, lm):
    write_pack(tmp_path / "best.zip", lm=lm)
    recipe = used(tmp_path, "best.zip", "--use_lm", str(lm).lower(), "--token_type", "char")
    assert recipe.paths.exp_dir == tmp_path / "exp/best"
    assert recipe.paths.model_file == tmp_path / "exp/best/9epoch.pth"
    assert recipe.paths.model_file.read_bytes() == b"weights"
    assert recipe.tokens.token_list.read_text().splitlines() == TOKENS
    assert recipe.tokens.bpe_model.read_bytes() == b"pieces"
    found = yaml.safe_load((recipe.paths.exp_dir / "config.yaml").read_text())
    assert found["token_list"] == TOKENS
    assert Path(found["bpemodel"]).read_bytes() == b"pieces"
    tag = "_lm_lm_2epoch" if lm else ""
    assert recipe.paths.inference_dir.name == f"inference{tag}_asr_model_9epoch"
    assert [path.read_bytes() for path in recipe.paths.lm_files.values()][1:] == (
        [b"lm"] if lm else []
    )


def test_it_is_fetched_once_and_again_when_it_changed(tmp_path, capsys):
    write_pack(tmp_path / "best.zip")
    for expected in (1, 0):
        recipe = used(tmp_path, "best.zip")
        assert capsys.readouterr().out.count("Fetch the model best.zip") == expected
    write_pack(tmp_path / "best.zip", model=b"other")
    recipe = used(tmp_path, "best.zip")
    assert recipe.paths.model_file.read_bytes() == b"other"


def test_what_cannot_be_used_is_one_line(tmp_path):
    write_pack(tmp_path / "st.zip", task="st")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "st.zip").read_bytes()[:100])
    for name, message in (
        ("none.zip", "--download_model none.zip: no such file"),
        ("cut.zip", "cut.zip: not a whole pack"),
        ("st.zip", "st.zip: has no asr_train_config"),
    ):
        with pytest.raises(UserError, match=message):
            used(tmp_path, name)
    options = parse_options([*ARGV, "--download_model", "st.zip"])
    with pytest.raises(UserError, match="stage 5 would make one: add --skip_train true"):
        use_downloaded(options, tmp_path, [3, 5, 12])


def test_a_name_of_the_model_zoo_is_fetched_by_it(tmp_path, monkeypatch):
    downloader = pytest.importorskip("espnet_model_zoo.downloader")
    write_pack(tmp_path / "there.zip", lm=False)
    with zipfile.ZipFile(tmp_path / "there.zip") as archive:
        archive.extractall(tmp_path / "there")

    def download_and_unpack(self, name):
        if name != "me/model":
            raise RuntimeError("404:\nno such repository")
        return {
            "asr_train_config": str(tmp_path / "there/exp/asr/config.yaml"),
            "asr_model_file": str(tmp_path / "there/exp/asr/9epoch.pth"),
        }

    with pytest.raises(UserError, match="me/far: cannot be fetched: no network"):
        monkeypatch.setattr(download, "unreachable_on_hub", lambda name: "no network")
        used(tmp_path, "me/far")
    monkeypatch.setattr(download, "unreachable_on_hub", lambda name: None)
    monkeypatch.setattr(downloader.ModelDownloader, "download_and_unpack", download_and_unpack)
    recipe = used(tmp_path, "me/model", "--use_lm", "false")
    assert recipe.paths.exp_dir == tmp_path / "exp/me/model"
    assert recipe.paths.model_file.read_bytes() == b"weights"
    with pytest.raises(UserError, match="me/none: cannot be fetched: 404: no such repository"):
        used(tmp_path, "me/none")


def test_stages_that_train_or_pack_are_left_out(tmp_path, capsys):
    write_pack(tmp_path / "best.zip", lm=False)
    argv = [*ARGV, "--download_model", "best.zip", "--use_lm", "false", "--stage", "14"]
    run_recipe([*argv, "--skip_packing", "false", "--skip_upload_hf", "false"], tmp_path)
    assert capsys.readouterr().out.count("skipped (--download_model") == 2


@pytest.mark.parametrize("name", ["{outside}", "../../../outside", "/etc/passwd"])
def test_nothing_outside_of_a_pack_is_taken(tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_text("secret")
    config = CONFIG | {"bpemodel": name.format(outside=outside)}
    write_pack(tmp_path / "best.zip", config=config)
    with pytest.raises(UserError, match="config.yaml: names .*, which is not there"):
        used(tmp_path, "best.zip")
    assert not list(tmp_path.rglob("bpe.model"))
    write_pack(tmp_path / "best.zip", config=CONFIG | {"bpemodel": "data"})
    with pytest.raises(UserError, match="data: is a directory, not a file"):
        used(tmp_path, "best.zip")


def test_a_user_who_trusts_it_may_let_it_name_any_file(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"pieces")
    write_pack(tmp_path / "best.zip", lm=False, config=CONFIG | {"bpemodel": str(outside)})
    with files_trusted():
        assert used(tmp_path, "best.zip", "--use_lm", "false").paths.exp_dir.is_dir()
