"""Stage 15 against a local stand-in for the hub."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from hub_stand_in import Hub

CHECKOUT = Path(__file__).resolve().parents[2]
ARGV = [
    *("--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--use_lm", "false"),
    *("--stage", "15", "--asr_tag", "tiny", "--skip_upload_hf", "false", "--lang", "en"),
]
FILES = {
    "meta.yaml": b"files: {asr_model_file: exp/asr_tiny/3epoch.pth}\n",
    "exp/asr_tiny/3epoch.pth": bytes(range(256)) * 9,
    "exp/asr_tiny/config.yaml": b"encoder: conformer\n",
}


@pytest.fixture
def recipe(tmp_path):
    exp_dir = tmp_path / "egs2/an4/asr1/exp/asr_tiny"
    exp_dir.mkdir(parents=True)
    (exp_dir / "config.yaml").write_text("encoder: conformer\n")
    (exp_dir / "RESULTS.md").write_text("# RESULTS\n\n### WER\n|a|b|\n")
    with zipfile.ZipFile(exp_dir / "asr_tiny_valid.acc.ave.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return exp_dir.parents[1]


def upload(recipe, *argv, url="http://127.0.0.1:1", token="hf_secret"):
    environment = {
        "PYTHONPATH": str(CHECKOUT),
        "PATH": "/usr/bin:/bin",
        "HF_ENDPOINT": url,
        "HF_HOME": str(recipe / "hf_home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    if token:
        environment["HF_TOKEN"] = token
    return subprocess.run(
        [sys.executable, "-m", "mtla_espnet", "recipe", "asr", *ARGV, *argv],
        cwd=recipe,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_unpacked_model_and_its_card_arrive(recipe):
    with Hub() as hub:
        done = upload(recipe, "--hf_repo", "me/model", url=hub.url)
        assert done.returncode == 0, done.stderr
        assert f"The model is {hub.url}/me/model" in done.stdout
        assert hub.tokens == {"Bearer hf_secret"}
        assert {name: hub.files[name] for name in FILES} == FILES
        assert hub.files.keys() - FILES.keys() == {"README.md"}
        head, body = hub.files["README.md"].decode().split("---\n")[1:]
        assert yaml.safe_load(head)["language"] == "en"
        assert "automatic-speech-recognition" in yaml.safe_load(head)["tags"]
        for words in ("`egs2/an4/asr1`", 'from_pretrained("me/model")', "### WER", "encoder: con"):
            assert words in body

        asked = len(hub.asked)
        again = upload(recipe, "--hf_repo", "me/model", url=hub.url)
        assert "Stage 15: Upload the model: done already, skipped" in again.stdout
        assert len(hub.asked) == asked
    assert "hf_secret" not in done.stdout + done.stderr


def test_a_refusal_is_one_line_and_is_tried_again(recipe):
    with Hub() as hub:
        hub.refuse = 401
        done = upload(recipe, "--hf_repo", "me/model", url=hub.url)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith(f"Error: --hf_repo me/model: {hub.url} does not take it: ")
        assert "401" in done.stderr
        hub.refuse = None
        assert upload(recipe, "--hf_repo", "me/model", url=hub.url).returncode == 0
        assert hub.files["meta.yaml"] == FILES["meta.yaml"]


def test_a_hub_that_cannot_be_reached_is_one_line(recipe):
    done = upload(recipe, "--hf_repo", "me/model")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "http://127.0.0.1:1 does not take it: " in done.stderr


@pytest.mark.parametrize(
    ("argv", "token", "message"),
    [
        ((), "a", "--skip_upload_hf false needs --hf_repo OWNER/NAME, a model repository"),
        (("--hf_repo", "model"), "a", "--hf_repo model: must be OWNER/NAME, a model repository"),
        (("--hf_repo", "me/a--b"), "a", "--hf_repo me/a--b: "),
        (("--hf_repo", "me/model"), "", "needs a token of the Hugging Face hub that may write"),
    ],
)
def test_what_is_missing_is_said_at_the_start(recipe, argv, token, message):
    done = upload(recipe, *argv, token=token)
    assert done.returncode != 0
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not list(recipe.glob("exp/hf*"))
