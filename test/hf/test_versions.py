"""Another version of transformers is told before anything is imported of it."""

import importlib.metadata

import pytest

from mtla_espnet.hf.versions import check_version


@pytest.mark.parametrize("version", ["5.17.0", "5.24.0", "5.31.2.dev0"])
def test_takes(monkeypatch, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    check_version()


@pytest.mark.parametrize("version", ["4.57.6", "5.16.1", "6.0.0"])
def test_refuses(monkeypatch, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(
        ImportError, match=rf"{version} is installed: pip install 'mtla-espnet\[hf\]'"
    ):
        check_version()


def test_tells_that_it_is_missing(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ImportError, match="needs transformers: pip install"):
        check_version()
