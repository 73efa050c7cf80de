"""Models from elsewhere that are damaged, or whose maker means harm; and canaries."""

import pickle
import zipfile

import numpy as np
import torch
import yaml

CONFIG, WEIGHTS, STATISTICS = "exp/asr/config.yaml", "exp/asr/9epoch.pth", "exp/stats/stats.npz"


class Canary:
    """A file that is written when code of a file runs."""

    def __init__(self, directory):
        self.path = directory / "canary"

    def __reduce__(self):
        return open, (str(self.path), "w")

    @property
    def expression(self):
        """A text that writes it when it is evaluated."""
        return f"open({str(self.path)!r}, 'w')"

    @property
    def has_run(self):
        return self.path.exists()


class Foreign:
    """A sound model, to be spoiled and packed.

    Args:
        model: of the fixtures.
        directory: where to write packs.
    """

    def __init__(self, model, directory):
        self.directory = directory
        self.config = yaml.safe_load(model.config_file.read_text())
        self.config["normalize_conf"]["stats_file"] = STATISTICS
        self.weights = torch.load(model.file, weights_only=True)
        statistics = model.directory.parent / "asr_stats/feats_stats.npz"
        self.members = {STATISTICS: statistics.read_bytes()}
        self.meta = {
            "yaml_files": {"asr_train_config": CONFIG},
            "files": {"asr_model_file": WEIGHTS},
        }

    def configure(self, **changes):
        """Change top-level keys; options are laid over the old ones, unless the class changes."""
        for key, value in changes.items():
            old = self.config.get(key)
            both = isinstance(old, dict) and isinstance(value, dict)
            both = both and key.removesuffix("_conf") not in changes
            self.config[key] = {**old, **value} if both else value
        return self

    def save(self, name, value):
        """Add a file of `torch.save`."""
        path = self.directory / "saved"
        torch.save(value, path)
        self.members[name] = path.read_bytes()
        return self

    def files(self):
        """Return name -> content."""
        files = {CONFIG: yaml.safe_dump(self.config).encode()} | self.members
        if WEIGHTS not in files:
            self.save(WEIGHTS, self.weights)
            files[WEIGHTS] = self.members.pop(WEIGHTS)
        return {"meta.yaml": yaml.safe_dump(self.meta).encode()} | files

    def pack(self):
        """Write a pack; return its path."""
        path = self.directory / "foreign.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files().items():
                archive.writestr(name, content)
        return path

    def unpack(self):
        """Write an experiment, as a directory from elsewhere; return its path."""
        root = self.directory / "elsewhere"
        for name, content in self.files().items():
            if name != "meta.yaml":
                target = root / name.replace("9epoch", "valid.acc.ave")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        return root / "exp/asr"


def pickled_archive(canary):
    """Return an npz that holds a pickle."""
    import io

    stream = io.BytesIO()
    values = {"count": 1, "sum": np.array([canary], dtype=object), "sum_square": np.zeros(2)}
    np.savez(stream, **values)
    return stream.getvalue()


def pickled(canary):
    """Return a pickle that is a file of its own."""
    return pickle.dumps({"Config": canary})
