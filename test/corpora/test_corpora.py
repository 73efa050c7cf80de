import argparse
import importlib

import pytest

from mtla_espnet.corpora import CORPORA


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_every_corpus_declares_options_and_prepares(name):
    module = importlib.import_module(CORPORA[name][0])
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    args = parser.parse_args([])
    assert str(args.output) == "data"
    # what is installed needs no download
    assert str(getattr(args, "downloads", "downloads")) == "downloads"
    assert callable(module.prepare)
