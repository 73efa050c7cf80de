"""Stage 15: upload the packed model to the Hugging Face hub, with a model card.

ESPnet's asr.sh clones the repository by git and git-lfs; here huggingface_hub sends the files.
The unpacked model there is what ESPnet's `from_pretrained` downloads.
"""

import os
import shutil
import zipfile
from pathlib import Path

from mtla_espnet.directories import scratch_directory
from mtla_espnet.files import UserError, write_text
from mtla_espnet.jobs.log import job_log, say
from mtla_espnet.jobs.marks import Part
from mtla_espnet.network import unreachable
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.yaml_files import dump_yaml

TITLE = "Upload the model"


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    directory = recipe.paths.hub_dir
    return [
        Part(
            directory=directory,
            options={},
            inputs={
                recipe.paths.packed_model: 14,
                recipe.paths.exp_dir / "config.yaml": 11,
                recipe.paths.exp_dir / "RESULTS.md": 13,
            },
            outputs=[directory / "model/README.md", directory / "model/meta.yaml"],
        )
    ]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Say what is called."""
    repo = recipe.options.hf_repo
    return [f"huggingface_hub.HfApi().upload_folder of {part.directory / 'model'} to {repo}"]


def run(recipe: Recipe, part: Part) -> None:
    """Unpack the model, write its card, and send both.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    check_hub(recipe)
    folder = part.directory / "model"
    with scratch_directory(part.directory) as scratch:
        unpacked = scratch / "model"
        with zipfile.ZipFile(recipe.paths.packed_model) as archive:
            archive.extractall(unpacked)
        write_text(unpacked / "README.md", model_card(recipe))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unpacked, folder)
    (command,) = commands(recipe, part)
    with job_log(part.directory / "upload.log", command):
        address = _send(recipe.options.hf_repo, folder)
    say(f"The model is {address}")


def _send(repo: str, folder: Path) -> str:
    """Send a folder's files as one commit; return the address of the repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    if why := unreachable(api.endpoint):
        raise UserError(f"--hf_repo {repo}: {api.endpoint} does not take it: {why}")
    try:
        address = api.create_repo(repo, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Update the model")
    # Its bases: the hub's errors are those of the HTTP library, which differs by version.
    except (*HfHubHTTPError.__bases__, OSError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"--hf_repo {repo}: {api.endpoint} does not take it: {why}") from None
    return str(address)


def check_hub(recipe: Recipe) -> None:
    """Check what an upload needs, without the network.

    Raises:
        UserError: the repository is not named, huggingface_hub is not installed, or there
            is no token.
    """
    repo = recipe.options.hf_repo
    if not repo:
        raise UserError("--skip_upload_hf false needs --hf_repo OWNER/NAME, a model repository", 2)
    if repo.count("/") != 1:
        raise UserError(f"--hf_repo {repo}: must be OWNER/NAME, a model repository", 2)
    try:  # here: few recipes upload
        from huggingface_hub import get_token
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id
    except ImportError:
        raise UserError(
            "--skip_upload_hf false needs huggingface_hub: pip install huggingface_hub"
        ) from None
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"--hf_repo {repo}: {' '.join(str(error).split())}", 2) from None
    if not get_token():
        raise UserError(
            "--skip_upload_hf false needs a token of the Hugging Face hub that may write: "
            "run `hf auth login`, or set HF_TOKEN"
        )


def model_card(recipe: Recipe) -> str:
    """Return the model's README.md: how it is used, its results and its configuration."""
    options = recipe.options
    kind = ["audio"] if recipe.task.speech else []
    head = {
        "library_name": "espnet",
        "tags": ["espnet", "mtla_espnet", *kind, recipe.task.hub_tag],
        "language": options.lang,
    }
    if options.lang == "noinfo":
        del head["language"]
    results = (recipe.paths.exp_dir / "RESULTS.md").read_text(encoding="utf-8")
    config = (recipe.paths.exp_dir / "config.yaml").read_text(encoding="utf-8")
    model, call = recipe.task.espnet_inference, "text = model(words)[0][0]"
    if recipe.task.speech:
        call = f"text = model(speech)[0][0]  # samples at {recipe.rate} Hz"
    place = "/".join(recipe.root.absolute().parts[-2:])
    return (
        f"---\n{dump_yaml(head)}---\n\n"
        f"# {options.hf_repo}\n\n"
        f"Trained by the recipe `egs2/{place}` of mtla_espnet, an extension of ESPnet2.\n\n"
        "```python\n"
        "import mtla_espnet.tasks  # registers the decoder with ESPnet\n"
        f"from espnet2.bin.{recipe.task.model}_inference import {model}\n\n"
        f'model = {model}.from_pretrained("{options.hf_repo}")\n'
        f"{call}\n"
        "```\n\n"
        f"{results.rstrip()}\n\n"
        f"## Configuration\n\n```yaml\n{config.rstrip()}\n```\n"
    )
