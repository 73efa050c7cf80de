"""Make the model that comes with the package: weights in float16, what it needs, and a card.

usage: tools/ship_model.py PACK CARD OUTPUT
    PACK    zip of stage 14 (run.sh --skip_packing false)
    CARD    Markdown: how it was trained, its licence, its results
    OUTPUT  mtla_espnet/inference/smarthome.zip
"""

import io
import sys
import zipfile

import torch
import yaml

_LEFT_OUT = ("images/", "RESULTS.md")
_DATE = (2026, 1, 1, 0, 0, 0)  # the same bytes each time


def main(pack: str, card: str, output: str) -> None:
    """Write the zip file."""
    with zipfile.ZipFile(pack) as source, zipfile.ZipFile(output, "w") as target:
        named = yaml.safe_load(source.read("meta.yaml"))["files"].values()
        for name in source.namelist():
            if any(part in name for part in _LEFT_OUT) or name.endswith("/"):
                continue
            data = source.read(name)
            _add(target, name, _halved(data) if name in named and name.endswith(".pth") else data)
        with open(card, "rb") as file:
            _add(target, "README.md", file.read())


def _halved(data: bytes) -> bytes:
    weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    floats = {name: value for name, value in weights.items() if value.is_floating_point()}
    halved = io.BytesIO()
    torch.save(weights | {name: value.half() for name, value in floats.items()}, halved)
    return halved.getvalue()


def _add(target: zipfile.ZipFile, name: str, data: bytes) -> None:
    target.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
