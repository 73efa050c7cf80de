"""What comes from elsewhere runs nothing, takes no more than its size, and is told in one line.

Each row is a kind of damage or harm: what is changed in a sound pack, and what the line says.
"""

import os
import re

import pytest
import torch

from hostile_packs import CONFIG, STATISTICS, WEIGHTS, Foreign
from mtla_espnet.files import UserError
from mtla_espnet.inference.model_files import unpack
from mtla_espnet.inference.speech2text import Speech2Text
from mtla_espnet.task import TASKS

pytestmark = pytest.mark.espnet


@pytest.fixture
def foreign(model, tmp_path):
    (tmp_path / "foreign").mkdir()
    return Foreign(model, tmp_path / "foreign")


def refusal(path):
    """Load a model that cannot be; return the one line that says why."""
    with pytest.raises(UserError) as caught:
        Speech2Text.from_pretrained(path, beam_size=1)
    line = str(caught.value)
    assert "\n" not in line and len(line) <= 1000
    assert line.startswith(str(path)), "the file is named first, by its name in the pack"
    return line


def named_elsewhere(foreign):
    foreign.meta["files"]["asr_model_file"] = "../../outside.pth"


def no_names(foreign):
    foreign.meta["files"]["asr_model_file"] = None


def empty_meta(foreign):
    foreign.meta = {"yaml_files": None, "files": None}


def meta_of_itself(foreign):
    foreign.members["meta.yaml"] = b"yaml_files: &a {asr_train_config: *a}\nfiles: {}\n"


def long_name(foreign):
    foreign.meta["files"]["asr_model_file"] = "x" * 5000


def no_weights(foreign):
    foreign.members[WEIGHTS] = b""


def bomb_that_is_needed(foreign):
    foreign.members[STATISTICS] = bytes(200 << 20)


PACKS = {
    "a name that leads out": (named_elsewhere, "meta.yaml: asr_model_file names '../../outside"),
    "null": (no_names, "meta.yaml: asr_model_file names 'None'"),
    "no lists": (empty_meta, "its meta.yaml is not that of espnet2.bin.pack"),
    "an alias of itself": (meta_of_itself, "its meta.yaml is not that .*holds itself"),
    "a name of 5000 characters": (long_name, "meta.yaml: asr_model_file names 'xxx"),
    "empty weights": (no_weights, "not a whole model file of PyTorch"),
    "a bomb": (bomb_that_is_needed, "stats.npz is too large to unpack: 200 MiB"),
}


@pytest.mark.parametrize("row", PACKS)
def test_packs(foreign, row):
    change, message = PACKS[row]
    change(foreign)
    assert_matches(message, refusal(foreign.pack()))


def encrypted(content):
    """Set the flag of encryption of every member."""
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = content.split(signature)
        marked = [part[: place - 4] + bytes([part[place - 4] | 1]) + part[place - 3 :]
                  for part in parts[1:]]  # fmt: skip
        content = signature.join([parts[0], *marked])
    return content


def cut_off(content):
    return content[: len(content) // 2]


def overwritten(content):
    """Damage the first member."""
    return content[:60] + bytes(40) + content[100:]


@pytest.mark.parametrize("damage", [encrypted, cut_off, overwritten, lambda content: b""])
def test_damaged_packs(foreign, damage):
    path = foreign.pack()
    path.write_bytes(damage(path.read_bytes()))
    assert_matches("foreign.zip: (not a whole pack of espnet2.bin.pack|its meta)", refusal(path))


def test_what_no_model_needs_stays_in_the_pack(foreign, tmp_path):
    foreign.members["exp/asr/images/bomb.png"] = bytes(300 << 20)
    foreign.members["../outside"] = b"1"
    found = unpack(foreign.pack(), tmp_path / "unpacked", TASKS["asr"])
    assert {path.name for path in found.values()} == {"config.yaml", "9epoch.pth"}
    names = [path.name for path in tmp_path.joinpath("unpacked").rglob("*") if path.is_file()]
    assert sorted(names) == ["9epoch.pth", "config.yaml", "meta.yaml", "stats.npz"]
    assert not list(tmp_path.glob("outside"))


@pytest.mark.parametrize("name", ["config.yaml", "valid.acc.ave.pth", "../stats/stats.npz"])
def test_a_pipe_in_an_experiment_is_no_file(foreign, name):
    directory = foreign.unpack()
    (directory / name).unlink()
    os.mkfifo(directory / name)
    with pytest.raises(UserError, match="pipe|no config.yaml|has none of"):
        Speech2Text.from_pretrained(directory, beam_size=1)


@pytest.mark.parametrize(
    "name, message",
    [
        ("valid.acc.ave.pth", "valid.acc.ave.pth: is a link that leads out"),
        ("../stats/stats.npz", "names exp/stats/stats.npz, which is not there"),
    ],
)
def test_a_link_does_not_lead_out_of_an_experiment(foreign, tmp_path, name, message):
    directory = foreign.unpack()
    Speech2Text.from_pretrained(directory, beam_size=1)
    outside = tmp_path / "outside"
    (directory / name).rename(outside)
    (directory / name).symlink_to(outside)
    with pytest.raises(UserError, match=message):
        Speech2Text.from_pretrained(directory, beam_size=1)
    Speech2Text.from_pretrained(directory, beam_size=1, trust_files=True)


def assert_matches(message, line):
    assert re.search(message, line), line


def configured(**changes):
    return lambda foreign: foreign.configure(**changes)


def with_file(content, name="exp/extra.bin", **changes):
    def change(foreign):
        foreign.configure(**changes)
        foreign.members[name] = content

    return change


def raw_config(text):
    def change(foreign):
        foreign.members[CONFIG] = text.encode()

    return change


CONFIGS = {
    "invalid date": (raw_config("token_list: [a]\nday: 2020-13-45\n"), "config.yaml:2: .*month"),
    "aliases": (raw_config("token_list: [a]\na: &a {x: *a}\n"), "config.yaml:2: .*holds itself"),
    "depth": (raw_config("token_list: [a]\na: " + "[" * 5000), "config.yaml:2: .*nest"),
    "code in YAML": (raw_config("token_list: !!python/object/apply:os.getcwd []\n"), "config.yaml"),
    "not text": (raw_config("\x00\x01"), "config.yaml"),
    "a list": (raw_config("[1]"), "config.yaml: not a configuration"),
    "tokens that are no text": (configured(token_list=[1, 2]), "token_list: 1 is not text"),
    "no tokens": (configured(token_list=[]), "token_list must list the tokens"),
    "stats_file outside": (
        configured(normalize_conf={"stats_file": "/etc/passwd"}),
        "config.yaml: names /etc/passwd, which is not there",
    ),
    "stats_file above": (
        configured(normalize_conf={"stats_file": "../../../../../etc/passwd"}),
        "config.yaml: names .*etc/passwd, which is not there",
    ),
    "stats_file garbage": (
        with_file(b"garbage", STATISTICS),
        "stats.npz: not the statistics of stage 10",
    ),
    "stats_file without sums": (
        with_file(b"\x93NUMPY", STATISTICS),
        "stats.npz: not the statistics of stage 10",
    ),
    "bpemodel outside": (
        configured(token_type="bpe", bpemodel="/etc/passwd"),
        "config.yaml: names /etc/passwd, which is not there",
    ),
    "bpemodel a directory": (
        configured(token_type="bpe", bpemodel="exp"),
        "exp: is a directory, not a file",
    ),
    "bpemodel empty": (
        with_file(b"", token_type="bpe", bpemodel="exp/extra.bin"),
        "extra.bin: cannot be loaded",
    ),
    "bpemodel random": (
        with_file(os.urandom(500), token_type="bpe", bpemodel="exp/extra.bin"),
        "extra.bin: cannot be loaded",
    ),
    "bpe without bpemodel": (configured(token_type="bpe"), "token_type: bpe needs bpemodel"),
    "token_type whisper_en": (configured(token_type="whisper_en"), "token_type: whisper_en"),
    "token_type phn": (configured(token_type="phn"), "token_type: phn needs g2p"),
    "token_type nonsense": (configured(token_type="nonsense"), "unknown 'nonsense' .legal: bpe"),
    "token_type 3": (configured(token_type=3), "token_type: unknown 3"),
    "encoder unknown": (configured(encoder="conformr"), "encoder: unknown 'conformr' .nearest"),
    "encoder a list": (configured(encoder=[1]), r"encoder: unknown \[1\]"),
    "encoder option": (configured(encoder_conf={"zzz": 1}), "unknown key 'encoder_conf.zzz'"),
    "decoder option": (configured(decoder_conf={"zzz": 1}), "unknown key 'decoder_conf.zzz'"),
    "attention": (configured(decoder_conf={"attention": "mtlaa"}), "config.yaml: .*mtlaa"),
    "frontend unknown": (configured(frontend="zzz"), "frontend: unknown 'zzz'"),
    "frontend_conf text": (configured(frontend_conf="zzz"), "frontend_conf must hold"),
    "encoder_conf number": (configured(encoder_conf=3), "encoder_conf must hold"),
    "encoder whisper": (configured(encoder="whisper", encoder_conf=None), "config.yaml: no model"),
    "encoder 10^6 wide": (
        configured(encoder_conf={"output_size": 10**6, "linear_units": 3 * 10**6}),
        "config.yaml: asks for a model far larger than the",
    ),
    "10^6 layers": (
        configured(decoder_conf={"num_blocks": 10**6}),
        "config.yaml: asks for a model far larger than the",
    ),
    "linear units 2^40": (
        configured(decoder_conf={"linear_units": 2**40}),
        "config.yaml: asks for a model far larger than the",
    ),
    "negative width": (configured(encoder_conf={"output_size": -16}), "config.yaml: "),
    "width as text": (configured(encoder_conf={"output_size": "wide"}), "config.yaml: "),
    "n_fft 2^40": (configured(frontend_conf={"n_fft": 2**40}), "frontend_conf.n_fft: 10995"),
    "n_mels 2^40": (configured(frontend_conf={"n_mels": 2**40}), "frontend_conf.n_"),
    "n_fft -1": (configured(frontend_conf={"n_fft": -1}), "frontend_conf.n_fft: -1 cannot be"),
    "fs as text": (configured(frontend_conf={"fs": "a lot"}), "frontend_conf.fs: not a sampling"),
    "fs 0": (configured(frontend_conf={"fs": 0}), "frontend_conf.fs: 0 is not a sampling rate"),
    "fs 10^12": (configured(frontend_conf={"fs": 10**12}), "frontend_conf.fs: 1000000000000 is"),
    "fs a list": (configured(frontend_conf={"fs": [1]}), "frontend_conf.fs: not a sampling rate"),
    "an address": (
        configured(frontend="s3prl", frontend_conf={
            "frontend_conf": {"upstream": "wavlm_url", "path_or_url": "https://example.org/x.pt"}
        }),
        "path_or_url: https://example.org/x.pt is not a file of the model",
    ),
    "a file of the current directory": (
        configured(frontend_conf={"htk": os.path.relpath(__file__)}),
        "frontend_conf.htk: .*test_hostile_models.py is not a file of the model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", CONFIGS)
def test_configurations(foreign, row):
    change, message = CONFIGS[row]
    change(foreign)
    assert_matches(message, refusal(foreign.pack()))


def spoiled(spoil):
    def change(foreign):
        name = next(
            name for name, value in foreign.weights.items()
            if name.startswith("encoder.") and value.dim() == 2
        )  # fmt: skip
        foreign.weights[name] = spoil(foreign.weights[name])

    return change


def with_nan(value):
    value = value.clone()
    value[-1, -1] = float("nan")
    return value


def with_infinity(value):
    value = value.clone()
    value[0, 0] = float("-inf")
    return value


def quantised(value):
    return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


SPOILT = {
    "NaN": (with_nan, "9epoch.pth: 'encoder.* is not finite"),
    "infinite": (with_infinity, "9epoch.pth: 'encoder.* is not finite"),
    "integers": (lambda value: value.long(), "'encoder.* numbers of type int64, not fractions"),
    "truth values": (lambda value: value > 0, "'encoder.* numbers of type bool"),
    "complex": (lambda value: value.to(torch.complex64), "'encoder.* is complex"),
    "sparse": (lambda value: value.to_sparse(), "'encoder.* is sparse"),
    "quantised": (quantised, "'encoder.* is quantized"),
    "meta": (lambda value: value.to("meta"), "'encoder.* is without values"),
    "one number many times": (
        lambda value: torch.zeros(1).expand(1 << 20, 1 << 20),
        "'encoder.* is larger than what is stored of it",
    ),
    "another shape": (lambda value: value[:1], "'encoder.* has the shape"),
}


@pytest.mark.parametrize("row", SPOILT)
def test_weights(foreign, row):
    spoil, message = SPOILT[row]
    spoiled(spoil)(foreign)
    assert_matches(message, refusal(foreign.pack()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precisions_are_taken(foreign, dtype):
    foreign.weights = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in foreign.weights.items()
    }
    assert Speech2Text.from_pretrained(foreign.pack(), beam_size=1).model is not None


def test_large_numbers_are_finite(foreign):
    spoiled(lambda value: torch.full_like(value, 3e38))(foreign)
    assert Speech2Text.from_pretrained(foreign.pack(), beam_size=1).model is not None
