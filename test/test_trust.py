import argparse
import builtins
import io
import pickle
import subprocess
import threading

import numpy as np
import pytest
import torch
import yaml

from hostile_packs import Canary
from mtla_espnet.files import UserError
from mtla_espnet.trust import (
    add_trust_argument,
    are_files_trusted,
    files_trusted,
    files_trusted_everywhere,
    nothing_runs,
)


@pytest.fixture
def canary(tmp_path):
    return Canary(tmp_path)


def saved(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    stream.seek(0)
    return stream


def pickled_array(canary):
    stream = io.BytesIO()
    np.save(stream, np.array([canary], dtype=object), allow_pickle=True)
    stream.seek(0)
    return stream


def by_joblib(canary):
    joblib = pytest.importorskip("joblib")
    stream = io.BytesIO()
    joblib.dump(canary, stream)
    stream.seek(0)
    return joblib.load(stream)


class OwnUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        return super().find_class(module, name)


READERS = {
    "pickle": lambda canary: pickle.loads(pickle.dumps(canary)),
    "pickle in Python": lambda canary: pickle._loads(pickle.dumps(canary)),
    "a class of one's own": lambda canary: OwnUnpickler(io.BytesIO(pickle.dumps(canary))).load(),
    "torch": lambda canary: torch.load(saved(canary), weights_only=False),
    "torch, as it is called": lambda canary: torch.load(saved(canary)),
    "torch with a module": lambda canary: torch.load(saved(canary), None, pickle),
    "numpy": lambda canary: np.load(pickled_array(canary), allow_pickle=True),
    "joblib": by_joblib,
    "eval": lambda canary: eval(canary.expression),
    "a shell": lambda canary: subprocess.run(f"touch {canary.path}", shell=True),
    "YAML": lambda canary: yaml.load(
        f"!!python/object/apply:builtins.open ['{canary.path}', w]", yaml.UnsafeLoader
    ),
    "a question": lambda canary: input(),
}


@pytest.mark.parametrize("reader", READERS)
def test_nothing_runs(canary, reader):
    with pytest.raises(UserError, match="^here: .*--trust_files true") as error:
        with nothing_runs("here"):
            READERS[reader](canary)
    assert "\n" not in str(error.value)
    assert not canary.has_run


@pytest.mark.parametrize("reader", ["pickle", "torch", "numpy", "eval", "YAML"])
def test_it_runs_where_the_user_says_so_and_after_it(canary, reader):
    if reader == "torch":  # its own way back is to be whole, too
        torch.serialization.add_safe_globals([])
    with files_trusted(), nothing_runs("here"):
        READERS[reader](canary)
    assert canary.has_run
    canary.path.unlink()
    with nothing_runs("here"):
        pass
    READERS[reader](canary)
    assert canary.has_run


def test_a_refusal_that_a_library_hides_is_told(canary):
    with pytest.raises(UserError, match="here: holds .*open, which would run as code"):
        with nothing_runs("here"):
            try:
                pickle.loads(pickle.dumps(canary))
            except Exception as error:
                raise OSError("not a model") from error
    assert not canary.has_run


def test_threads_that_are_started_inside_are_watched(canary):
    refused, go, done = [], threading.Event(), threading.Event()

    def read():
        try:
            pickle.loads(pickle.dumps(canary))
        except UserError as error:
            refused.append(str(error))

    def read_later():
        go.wait()
        assert pickle.loads(pickle.dumps(Fraction(1, 3))) == Fraction(1, 3)
        done.set()

    from fractions import Fraction

    before = threading.Thread(target=read_later)
    before.start()
    with nothing_runs("here"):
        inside = threading.Thread(target=read)
        inside.start()
        inside.join()
        go.set()
        before.join()
    assert done.is_set(), "a thread that was there before goes on with its own work"
    assert len(refused) == 1 and not canary.has_run


def test_plain_checkpoints_are_read():
    value = {"weight": torch.ones(2), "arguments": argparse.Namespace(lr=0.1), "layers": [1, "a"]}
    with nothing_runs("here"):
        found = torch.load(saved(value), weights_only=False)
    assert found["arguments"].lr == 0.1 and found["layers"] == [1, "a"]


@pytest.mark.parametrize(
    "text, value",
    [
        ("[(8, 10, 5)] + [(8, 3, 2)] * 4", [(8, 10, 5)] + [(8, 3, 2)] * 4),
        ("-1.5", -1.5),
        ("number", 7),
        ("{'a': [1, None]}", {"a": [1, None]}),
    ],
)
def test_plain_expressions_are_evaluated_where_they_stand(text, value):
    number = 7
    with nothing_runs("here"):
        assert eval(text) == value
        assert eval("number", {"number": 1}) == 1
    assert number == 7


@pytest.mark.parametrize(
    "text", ["f()", "[0] * 10 * 10 ** 9", "[0] * 100000", "x.__class__", "[x for x in y]", "f'{x}'"]
)
def test_other_expressions_are_not(text):
    with pytest.raises(UserError, match="here: asks to evaluate"):
        with nothing_runs("here"):
            eval(text)


def test_nothing_is_left_behind():
    before = builtins.eval, torch.load, torch.jit.load, torch.hub.load
    with nothing_runs("a"), nothing_runs("b"):
        assert torch.load is not before[1]
    assert (builtins.eval, torch.load, torch.jit.load, torch.hub.load) == before


def test_trust_is_off_until_it_is_said(monkeypatch):
    parser = argparse.ArgumentParser()
    add_trust_argument(parser)
    assert not parser.parse_args([]).trust_files
    assert parser.parse_args(["--trust_files", "true"]).trust_files
    assert not parser.parse_args(["--trust_files", "false"]).trust_files
    with pytest.raises(SystemExit):
        parser.parse_args(["--trust_files", "maybe"])
    assert not are_files_trusted()
    with files_trusted(False), files_trusted_everywhere(False):
        assert not are_files_trusted()
    with files_trusted_everywhere(True):
        assert are_files_trusted()
        seen = []
        thread = threading.Thread(target=lambda: seen.append(are_files_trusted()))
        thread.start()
        thread.join()
        assert seen == [True]
    assert not are_files_trusted()
