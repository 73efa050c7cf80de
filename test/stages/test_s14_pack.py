"""Stage 14: the zip file is all that ESPnet needs to load the model."""

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

import mtla_espnet
from mtla_espnet.data.text.token_list import build_token_list
from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages import s14_pack

CHECKOUT = Path(__file__).resolve().parents[2]
ARGV = [
    *("--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--use_lm", "false"),
    *("--stage", "14", "--asr_tag", "tiny", "--asr_stats_dir", "exp/stats"),
    *("--nbpe", "22", "--skip_packing", "false"),
]
ZIP = "exp/asr_tiny/asr_tiny_valid.acc.ave.zip"


def test_a_local_encoder_goes_along(tmp_path):
    folder = tmp_path / "downloads/whisper"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(b"x")
    both = [folder / "config.json", folder / "model.safetensors"]
    upstream = {"upstream": "wavlm_local", "path_or_url": "downloads/whisper/config.json"}
    for conf, expected in (
        ({"model": "downloads/whisper"}, both),
        ({"model": "openai/whisper-tiny"}, []),
        ({"frontend_conf": upstream}, both[:1]),
        ({"frontend_conf": {"upstream": "fbank"}}, []),
    ):
        config = {"frontend_conf": conf}
        recipe = Recipe(parse_options(ARGV), tmp_path, config, config)
        (part,) = s14_pack.parts(recipe)
        assert [path for path in part.inputs if path.parent == folder] == expected


def trained(recipe):
    """Write the files of an experiment with random weights; return the weights."""
    import torch

    from mtla_espnet.tasks.register import register

    register()
    from espnet2.tasks.asr import ASRTask

    token_dir, stats = "data/token_list/bpe_unigram22", "exp/stats/train/feats_stats.npz"
    text = ["THE CAT SAT ON THE MAT", "A DOG RAN BY THE RIVER", "WHO IS IT"]
    build_token_list(text, recipe / token_dir, "bpe", nbpe=22)
    (recipe / stats).parent.mkdir(parents=True)
    ones = np.ones(80, np.float32)
    np.savez(recipe / stats, count=10, sum=ones, sum_square=20 * ones)
    size = {"attention_heads": 2, "linear_units": 16, "num_blocks": 1}
    config = vars(ASRTask.get_parser().parse_args([])) | {
        "token_list": (recipe / token_dir / "tokens.txt").read_text().splitlines(),
        "token_type": "bpe",
        "bpemodel": f"{token_dir}/bpe.model",
        "normalize": "global_mvn",
        "normalize_conf": {"stats_file": str(recipe / stats)},
        "encoder": "conv1d_conformer",
        "encoder_conf": {"output_size": 16, **size},
        "decoder": "decoder_only",
        "decoder_conf": {"attention": "mtla", **size},
    }
    model = ASRTask.build_model(argparse.Namespace(**config))
    exp_dir = recipe / "exp/asr_tiny"
    (exp_dir / "images").mkdir(parents=True)
    (exp_dir / "images/loss.png").write_bytes(b"")
    torch.save(model.state_dict(), exp_dir / "3epoch.pth")
    (exp_dir / "valid.acc.ave.pth").symlink_to("3epoch.pth")
    config = yaml.safe_load(yaml.safe_dump(config))
    config["normalize_conf"]["stats_file"] = stats
    (exp_dir / "config.yaml").write_text(yaml.safe_dump(config))
    (exp_dir / "RESULTS.md").write_text("# RESULTS\n")
    return model.state_dict()


def pack(recipe, *argv):
    return subprocess.run(
        [sys.executable, "-m", "mtla_espnet", "recipe", "asr", *ARGV, *argv],
        cwd=recipe,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.espnet
def test_espnet_loads_what_is_packed(tmp_path):
    recipe, unpacked = tmp_path / "recipe", tmp_path / "unpacked"
    weights = trained(recipe)
    (recipe / "decode.yaml").write_text("beam_size: 2\nmaxlenratio: -9\n")
    done = pack(recipe, "--inference_config", "decode.yaml")
    assert done.returncode == 0, done.stderr
    assert f"The model is {ZIP}" in done.stdout
    assert "adding" not in done.stdout
    assert "# Ended (code 0)" in (recipe / "exp/asr_tiny/pack.log").read_text()
    with zipfile.ZipFile(recipe / ZIP) as archive:
        assert set(archive.namelist()) == {
            "meta.yaml",
            "exp/asr_tiny/config.yaml",
            "exp/asr_tiny/inference.yaml",
            "exp/asr_tiny/3epoch.pth",
            "exp/asr_tiny/RESULTS.md",
            "exp/asr_tiny/images/loss.png",
            "exp/stats/train/feats_stats.npz",
            "data/token_list/bpe_unigram22/bpe.model",
        }
    again = pack(recipe, "--inference_config", "decode.yaml")
    assert "Stage 14: Pack the model: done already, skipped" in again.stdout

    from espnet2.bin.asr_inference import Speech2Text
    from espnet2.main_funcs.pack_funcs import unpack

    packed = (recipe / ZIP).rename(tmp_path / "model.zip")
    recipe.rename(tmp_path / "elsewhere")  # nothing of it is needed
    for place in (packed, tmp_path / "elsewhere/exp/asr_tiny"):
        ours = mtla_espnet.Speech2Text.from_pretrained(place)
        assert (ours.options.beam_size, ours.options.maxlenratio) == (2, -9)
    loaded = Speech2Text.from_pretrained(**unpack(packed, unpacked), beam_size=2)
    assert mtla_espnet.Speech2Text.from_pretrained(unpacked).options.maxlenratio == -9
    shutil.copytree(tmp_path / "elsewhere/exp/asr_tiny", tmp_path / "copied")
    with pytest.raises(UserError, match="bpe.model, which is not there: .*; stage 14 packs"):
        mtla_espnet.Speech2Text.from_pretrained(tmp_path / "copied")
    state = loaded.asr_model.state_dict()
    assert state.keys() == weights.keys()
    for name, value in weights.items():
        # The statistics are float64 in training; decoding computes in float32.
        assert state[name].equal(value.float() if value.is_floating_point() else value), name
    assert loaded.tokenizer.text2tokens("THE CAT")[0] == "▁"
    noise = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    assert len(loaded(noise)) == 1


def test_what_is_missing_is_named(tmp_path):
    done = pack(tmp_path)
    assert done.returncode == 1
    message = "exp/asr_tiny/valid.acc.ave.pth is missing: run stage 11 first (--stage 11)"
    assert message in done.stderr
    assert not (tmp_path / ZIP).exists()
    left_out = pack(tmp_path, "--skip_packing", "true")
    assert "Stage 14: skipped (--skip_packing true)" in left_out.stdout


def test_the_language_model_is_packed_too():
    argv = [*ARGV, "--use_lm", "true", "--lm_tag", "small", "--inference_lm", "2epoch.pth"]
    recipe = Recipe(parse_options(argv))
    (part,) = s14_pack.parts(recipe)
    assert part.inputs[Path("exp/lm_small/2epoch.pth")] == 7
    (command,) = s14_pack.commands(recipe, part)
    assert "--lm_train_config exp/lm_small/config.yaml --lm_file exp/lm_small/2epoch.pth" in command
    assert command.count("exp/lm_small/2epoch.pth") == 1
