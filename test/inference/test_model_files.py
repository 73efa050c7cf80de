import zipfile

import pytest
import torch
import yaml

from mtla_espnet.files import UserError
from mtla_espnet.inference.model_files import load_model, model_files, read_config
from mtla_espnet.inference.speech2text import Speech2Text

pytestmark = pytest.mark.espnet


def pack(model, recipe, path):
    """Pack a model by ESPnet's own program, as its recipes do."""
    from espnet2.bin.pack import main

    main(
        [
            "asr",
            *("--asr_train_config", str(model.config_file)),
            *("--asr_model_file", str(model.file)),
            *("--option", str(recipe / "exp/asr_stats/feats_stats.npz")),
            *("--outpath", str(path)),
        ]
    )


def task():
    from espnet2.tasks.asr import ASRTask

    return ASRTask


@pytest.mark.parametrize("inside", [True, False])
def test_a_pack_decodes_as_the_directory_does(model, recipe, tmp_path, monkeypatch, inside):
    if inside:  # names in the pack are then relative
        monkeypatch.chdir(recipe)
    pack(model, recipe, tmp_path / "model.zip")
    wave = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 0.1
    options = {"beam_size": 2, "maxlenratio": -8}
    packed = Speech2Text.from_pretrained(tmp_path / "model.zip", **options)(wave)
    whole = Speech2Text.from_pretrained(str(model.directory), **options)(wave)
    assert packed[0][:3] == whole[0][:3]
    assert packed[0][3].score == whole[0][3].score


def test_paths_of_the_configuration_become_absolute(model, recipe):
    config = read_config(model.config_file)
    stats = recipe / "exp/asr_stats/feats_stats.npz"
    assert config["normalize_conf"]["stats_file"] == str(stats)


def test_encoders_are_found_above_or_stay_names(model, recipe):
    config = yaml.safe_load(model.config_file.read_text())
    (recipe / "downloads/whisper").mkdir(parents=True)
    (recipe / "tiny.pt").write_bytes(b"")
    for given, expected in (
        ({"model": "downloads/whisper"}, {"model": f"{recipe}/downloads/whisper"}),
        ({"model": "openai/whisper-tiny"}, {"model": "openai/whisper-tiny"}),
        (
            {"frontend_conf": {"path_or_url": "tiny.pt"}},
            {"frontend_conf": {"path_or_url": f"{recipe}/tiny.pt"}},
        ),
        ({"frontend_conf": {"upstream": "fbank"}}, {"frontend_conf": {"upstream": "fbank"}}),
    ):
        path = model.directory / "with_encoder.yaml"
        path.write_text(yaml.safe_dump({**config, "frontend_conf": given}))
        assert read_config(path)["frontend_conf"] == expected
        path.unlink()


class TestErrors:
    """Each is one line that names what is wrong."""

    def test_directory(self, tmp_path):
        def find(path):
            with model_files(path):
                pass

        with pytest.raises(UserError, match="none: no such directory or zip file"):
            find(tmp_path / "none")
        with pytest.raises(UserError, match="has no config.yaml"):
            find(tmp_path)
        (tmp_path / "config.yaml").write_text("token_list: [a]\n")
        with pytest.raises(UserError, match="has none of valid.acc.ave.pth, valid.acc.best.pth"):
            find(tmp_path)

    def test_pack(self, model, recipe, tmp_path):
        def load(path):
            Speech2Text.from_pretrained(path)

        whole, path = tmp_path / "whole.zip", tmp_path / "model.zip"
        pack(model, recipe, whole)
        for content in (b"", b"text", whole.read_bytes()[:-1000]):
            path.write_bytes(content)
            with pytest.raises(
                UserError, match=r"model.zip: not a whole pack of espnet2.bin.pack: .+"
            ):
                load(path)
        for meta, message in (
            (None, "not a whole pack"),
            ("a: [", "its meta.yaml is not that of"),
            ("a: 1", "its meta.yaml is not that of"),
            ("{files: {tts: a}, yaml_files: {}}", "has no asr_train_config"),
        ):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a", "")
                if meta:
                    archive.writestr("meta.yaml", meta)
            with pytest.raises(UserError, match=message):
                load(path)

    @pytest.mark.parametrize(
        "content, message",
        [
            ("just words", "config.yaml: not a configuration that ESPnet's training wrote"),
            ("a: [", "config.yaml:2: not valid YAML"),
            ("a: 1", "config.yaml: not a configuration that ESPnet's training wrote"),
        ],
    )
    def test_configuration(self, tmp_path, content, message):
        config = tmp_path / "config.yaml"
        config.write_text(content)
        with pytest.raises(UserError, match=message):
            read_config(config)

    def test_file_named_in_the_configuration(self, model, tmp_path):
        config = yaml.safe_load(model.config_file.read_text())
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(UserError, match="names exp/asr_stats/feats_stats.npz, which is not"):
            read_config(tmp_path / "config.yaml")

    def test_model_file(self, model, tmp_path):
        path = tmp_path / "model.pth"
        with pytest.raises(UserError, match="model.pth: no such model file"):
            load_model(task(), model.config_file, path)
        for content in (b"", b"text", model.file.read_bytes()[:-1000]):
            path.write_bytes(content)
            with pytest.raises(UserError, match="model.pth: not a whole model file"):
                load_model(task(), model.config_file, path)
        torch.save({"model": {}, "epoch": 3}, path)
        with pytest.raises(UserError, match="model.pth: holds no model parameters alone"):
            load_model(task(), model.config_file, path)

    def test_model_of_another_configuration(self, model, transformer, tmp_path):
        with pytest.raises(UserError, match=r"not a model of .*config.yaml: it has no 'decoder"):
            load_model(task(), model.config_file, transformer.file)
        state = torch.load(model.file, weights_only=True)
        name = next(name for name in state if name.startswith("encoder.") and state[name].dim())

        def refused(message, **changes):
            torch.save(state | changes, tmp_path / "model.pth")
            with pytest.raises(UserError, match=message):
                load_model(task(), model.config_file, tmp_path / "model.pth")

        refused(f"'{name}' has the shape \\(3, ", **{name: torch.zeros(3, *state[name].shape)})
        refused("has no 'another.weight'", **{"another.weight": torch.zeros(3)})

    def test_model_of_another_token_list(self, model, tmp_path):
        config = yaml.safe_load(model.config_file.read_text())
        config["token_list"] = config["token_list"][:-2]
        directory = model.directory.parent / tmp_path.name
        directory.mkdir()
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(UserError, match="was trained with 20 tokens, but .* lists 18"):
            load_model(task(), directory / "config.yaml", model.file)
