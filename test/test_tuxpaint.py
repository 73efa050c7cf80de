"""tuxpaint's recipes from the raw tree to scores, with tiny models on noise."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.score.result import read_result
from tiny_whisper import write_whisper

pytestmark = [pytest.mark.slow, pytest.mark.espnet]
CHECKOUT = Path(__file__).resolve().parents[1]
SMALL = {
    "max_epoch": 1,
    "keep_nbest_models": 1,
    "num_workers": 0,
    "encoder_conf": ("output_size=16", "attention_heads=2", "linear_units=16", "num_blocks=1"),
    "decoder_conf": ("attention_heads=2", "linear_units=16", "num_blocks=1"),
}
ARGS = " ".join(
    f"--{name} {value}"
    for name, values in SMALL.items()
    for value in (values if isinstance(values, tuple) else (values,))
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A checkout with the recipes, Debian's tree and a Whisper."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("egs2/TEMPLATE", "egs2/tuxpaint", "conf"):
        shutil.copytree(CHECKOUT / name, root / name, ignore=shutil.ignore_patterns("exp", "dump"))
    stamps = root / "tree/usr/share/tuxpaint/stamps/animals"
    stamps.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz" * 3):
        word = f"{letter}{'aeiou'[i % 5]}{i // 26 * 'x'}"
        lines = [f"A {word}.", f"fr.utf8=Un {word}.", f"es.utf8=Una {word}."]
        (stamps / f"{word}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for lang in ("es", "fr"):
            samples = rng.normal(0, 0.1, 44100)
            if lang == "fr":  # as most of the French: the left channel is silent
                samples = np.stack([np.zeros_like(samples), samples], axis=1)
            soundfile.write(stamps / f"{word}_desc_{lang}.ogg", samples, 44100, format="OGG")
    write_whisper(root / "egs2/tuxpaint/asr1/downloads/whisper-tiny.en")
    return root


def run(root, task, *words):
    environment = {
        **os.environ,
        "python": sys.executable,
        "PYTHONPATH": str(CHECKOUT),
        "TUXPAINT": str(root / "tree"),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        "./run.sh",
        "--nj",
        "2",
        "--ngpu",
        "0",
        "--local_data_opts",
        "--lang 'es fr'",
        *words,
    ]
    done = subprocess.run(
        command,
        cwd=root / f"egs2/tuxpaint/{task}1",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_recognition_begins_translation(root):
    recipe = root / "egs2/tuxpaint/asr1"
    run(root, "asr", "--asr_args", ARGS, "--asr_tag", "fbank")
    run(
        *(root, "asr", "--asr_args", ARGS, "--asr_tag", "whisper", "--stage", "10"),
        *("--asr_config", "conf/train_asr_whisper.yaml", "--feats_normalize", "none"),
        *("--asr_stats_dir", "exp/stats_whisper", "--inference_args", "--maxlenratio -5"),
    )
    tokens = (recipe / "data/mul_token_list/char/tokens.txt").read_text().split("\n")
    assert {"<es>", "<fr>", "<space>", "u"} <= set(tokens)
    references = read_table(recipe / "dump/raw/test/text")
    plain = sum(len(text.split(" ", 1)[1]) for text in references.values())
    for tag in ("fbank", "whisper"):
        (result,) = recipe.glob(f"exp/asr_{tag}/*/test/score_cer/result.txt")
        correct, substituted, deleted, *_ = read_result(result).numbers
        # Characters without the language.
        assert correct + substituted + deleted == plain
    model = recipe / "exp/asr_fbank/valid.acc.ave.pth:encoder:encoder"
    told = run(
        *(root, "st", "--st_args", ARGS, "--st_tag", "fbank", "--tgt_nbpe", "40"),
        *("--pretrained_asr", str(model)),
    )
    assert "BLEU" in told  # of the baseline
    (result,) = (root / "egs2/tuxpaint/st1").glob("exp/st_fbank/*/test/score_bleu/result.tc.txt")
    assert "chrF2" in result.read_text()
