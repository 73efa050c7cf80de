"""The paper's configurations are models of the paper's size."""

import importlib
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.espnet

CHECKOUT = Path(__file__).resolve().parents[1]
TASKS = {"asr1": "ASRTask", "st1": "STTask", "slu1": "SLUTask", "sum1": "MTTask"}
MODULES = {"sum1": "mt"}
# Recipe and configuration, tokens (target, source), kind of attention, the paper's millions.
PAPER = [
    *[("ami/asr1", "train_asr", 100, None, kind, 67) for kind in ("mha", "mla", "mtla")],
    *[("must_c/st1", "train_st", 8000, 5000, kind, 78) for kind in ("mha", "mla", "mtla")],
    *[("must_c/st1", "train_st", 8000, 5000, kind, 74) for kind in ("gqa", "mqa")],
    *[("slurp/slu1", "train_slu", 565, None, kind, 103) for kind in ("mha", "mla", "mtla")],
    *[("xsum/sum1", "train_sum", 30000, 30000, kind, 79) for kind in ("mha", "mla", "mtla")],
]
OTHERS = [
    ("ami/asr1", "train_asr_small", 100, None, 25.7),
    ("must_c/asr1", "train_asr", 5000, None, 65.4),
    ("must_c/asr1", "train_asr_small", 5000, None, 17.8),
    ("must_c/st1", "train_st_small", 8000, 5000, 18.1),
    ("slurp/slu1", "train_slu_small", 565, None, 25.8),
    ("xsum/sum1", "train_sum_small", 30000, 30000, 25.8),
]


def stand_in():
    """A front end of 25 layers of 1024 dimensions: to build WavLM would download it."""
    from espnet2.asr.frontend.abs_frontend import AbsFrontend

    class StandIn(AbsFrontend):
        def __init__(self, fs=16000, **options):
            super().__init__()
            assert options["frontend_conf"]["upstream"] == "wavlm_large"
            assert options["multilayer_feature"] is True
            self.weights = torch.nn.Parameter(torch.zeros(25))
            self.upstream = torch.nn.Linear(1024, 1024)

        def output_size(self):
            return 1024

        def forward(self, speech, lengths):
            raise NotImplementedError

    return StandIn


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return a function that builds a model on the meta device as training would."""
    importlib.import_module("mtla_espnet.tasks")

    def model_of(recipe, config, n_tokens, n_source_tokens, kind=None):
        task = Path(recipe).name
        module = importlib.import_module(f"espnet2.tasks.{MODULES.get(task, task[:-1])}")
        if task == "asr1":
            monkeypatch.setitem(module.frontend_choices.classes, "s3prl", stand_in())
        argv = ["--config", str(CHECKOUT / "egs2" / recipe / "conf" / f"{config}.yaml")]
        argv += ["--output_dir", str(tmp_path)]
        for name, number in (("token_list", n_tokens), ("src_token_list", n_source_tokens)):
            if number is not None:
                tokens = ["<blank>", "<unk>", *map(str, range(number - 3)), "<sos/eos>"]
                path = tmp_path / name
                path.write_text("".join(f"{token}\n" for token in tokens))
                argv += [f"--{name}", str(path)]
        if kind is not None:
            argv += ["--decoder_conf", f"attention={kind}"]
        task_class = getattr(module, TASKS[task])
        arguments = task_class.get_parser().parse_args(argv)
        with torch.device("meta"):
            return task_class.build_model(arguments), arguments

    return model_of


def millions(model, arguments):
    """Parameters that are trained, without the CTC layers."""
    frozen = tuple(f"{name}." for name in arguments.freeze_param)
    return (
        sum(
            parameter.numel()
            for name, parameter in model.named_parameters()
            if "ctc_lo" not in name and not (frozen and name.startswith(frozen))
        )
        / 1e6
    )


@pytest.mark.parametrize(("recipe", "config", "tokens", "source", "kind", "paper"), PAPER)
def test_the_model_has_the_papers_size(build, recipe, config, tokens, source, kind, paper):
    model, arguments = build(recipe, config, tokens, source, kind)
    assert model.decoder.attention == kind
    assert millions(model, arguments) == pytest.approx(paper, rel=0.03)


@pytest.mark.parametrize(("recipe", "config", "tokens", "source", "expected"), OTHERS)
def test_the_other_models_have_the_size_that_is_said(
    build, recipe, config, tokens, source, expected
):
    model, arguments = build(recipe, config, tokens, source)
    assert millions(model, arguments) == pytest.approx(expected, abs=0.1)


def test_wavlm_is_frozen(build):
    model, arguments = build("ami/asr1", "train_asr", 100, None)
    frozen = sum(each.numel() for each in model.frontend.upstream.parameters())
    everything = sum(each.numel() for each in model.parameters())
    ctc = sum(each.numel() for each in model.ctc.parameters())
    assert arguments.freeze_param == ["frontend.upstream"]
    assert everything - ctc - frozen == pytest.approx(1e6 * millions(model, arguments))
