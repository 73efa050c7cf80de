import sys

import pytest
import torch

from mtla_espnet.files import UserError
from mtla_espnet.inference.language_models import load_ngram

pytestmark = pytest.mark.espnet

TOKENS = ["<blank>", "<unk>", "a", "b", "<sos/eos>"]
# log10 probabilities; "a a" is unlikely, the end likely after b
ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-2.0\t<unk>
-99\t<s>\t-0.5
-1.0\t</s>
-0.5\ta\t-0.25
-0.6\tb\t-0.125

\\2-grams:
-0.1\t<s> a
-1.5\ta a
-0.2\tb </s>

\\end\\
"""


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path / "2gram.arpa"
    path.write_text(ARPA)
    return path


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="3gram.bin: no such n-gram file: make it by stage 9"):
        load_ngram(tmp_path / "3gram.bin", "full", TOKENS)


def test_the_kinds_are_named(arpa):
    with pytest.raises(UserError, match="ngram_scorer 'half' is unknown: say full or part"):
        load_ngram(arpa, "half", TOKENS)


def test_without_kenlm_its_name_is_said(arpa, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    monkeypatch.delitem(sys.modules, "espnet2.legacy.nets.scorers.ngram", raising=False)
    with pytest.raises(UserError, match="2gram.arpa needs the package kenlm: `pip install kenlm`"):
        load_ngram(arpa, "part", TOKENS)


def test_scores_are_those_of_the_file(arpa):
    pytest.importorskip("kenlm", reason="kenlm is optional and not installed")
    scorer = load_ngram(arpa, "full", TOKENS)
    x = torch.zeros(0, 1)
    scores, state = scorer.score(torch.tensor([4]), scorer.init_state(x), x)
    # <unk> and b are not seen after <s>: back-off and unigram
    expected = [-2.5, -2.5, -0.1, -1.1, -1.5]
    assert torch.allclose(scores, torch.tensor(expected), atol=1e-5)
    part = load_ngram(arpa, "part", TOKENS)
    sequence, offered = torch.tensor([4, 3]), torch.tensor([4, 2])
    scores, _ = part.score_partial(sequence, offered, state, x)
    assert torch.allclose(scores, torch.tensor([-0.2, -0.625]), atol=1e-5)


def test_a_file_that_is_no_ngram_is_named(tmp_path):
    pytest.importorskip("kenlm", reason="kenlm is optional and not installed")
    path = tmp_path / "bad.arpa"
    path.write_text("not an n-gram\n")
    with pytest.raises(UserError, match="bad.arpa: is no n-gram that KenLM reads"):
        load_ngram(path, "full", TOKENS)
