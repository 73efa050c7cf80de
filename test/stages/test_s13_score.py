"""Stage 13 of each task, on decodes made by hand."""

import dataclasses
import importlib.util
import json

import pytest

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.json_files import read_json, write_json
from mtla_espnet.recipe.load import load_recipe
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.report.comparison import write_comparison
from mtla_espnet.runner.checks import check_needs
from mtla_espnet.score.record import Measure, Result, Score, Table
from mtla_espnet.score.registry import SCORES, retire_results
from mtla_espnet.stages import s13_score
from mtla_espnet.task import TASKS

SETS = [
    *("--train_set", "train", "--valid_set", "valid", "--test_sets", "test"),
    *("--use_lm", "false"),
]


class Decoded:
    """A recipe whose set `test` is decoded."""

    def __init__(self, root, task, *argv):
        options = parse_options([*SETS, *argv], task=task)
        self.recipe = load_recipe(options, root)
        self.directory = self.recipe.paths.inference_dir / "test"

    def write(self, table, texts, name="test"):
        formatted = self.recipe.sets.formatted_dir(name)
        write_table(formatted / table, texts)
        write_table(formatted / "utt2spk", {key: "spk" for key in texts})

    def decode(self, texts):
        write_table(self.directory / "text", texts)

    def score(self):
        """Run the parts; what each says that it reads and writes is there."""
        for part in s13_score.parts(self.recipe):
            assert [path for path in part.inputs if not path.exists()] == []
            s13_score.run(self.recipe, part)
            assert [path for path in part.outputs if not path.exists()] == []
        return (self.recipe.paths.exp_dir / "RESULTS.md").read_text()


def test_recognition(tmp_path):
    decoded = Decoded(tmp_path, "asr", "--token_type", "char")
    decoded.write("text", {"a": "one two", "b": "three"})
    decoded.decode({"a": "one too", "b": "three"})
    results = decoded.score()
    assert "|2|3|66.67|33.33|0.00|0.00|33.33|50.00|" in results
    assert "### BLEU" not in results


@pytest.mark.parametrize(("text", "told"), [("明天见", True), ("stop", False)])
def test_what_wer_means_without_blanks_is_told(tmp_path, capsys, text, told):
    decoded = Decoded(tmp_path, "asr", "--token_type", "char")
    decoded.write("text", {"a": text})
    decoded.decode({"a": text})
    decoded.score()
    assert ("of texts without blanks CER says more" in capsys.readouterr().out) == told


def test_our_scorer_stands_in_for_sclite_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    argv = ["--token_type", "char", "--scorer", "sclite", "--score_opts", "-s"]
    decoded = Decoded(tmp_path, "asr", *argv)
    decoded.write("text", {"a": "One two", "b": "three"})
    decoded.decode({"a": "one two", "b": "three"})
    assert "|2|3|66.67|33.33|0.00|0.00|33.33|50.00|" in decoded.score()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "sclite" in line]
    assert line.endswith(
        "sclite is not installed (Debian's package sctk): our own scorer, with equal counts"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [("-F", "--score_opts -F: our own scorer knows -s alone"), ("'", "No closing quotation")],
)
def test_options_that_the_scorer_does_not_know_stop_the_run_at_its_start(
    tmp_path, monkeypatch, options, message
):
    monkeypatch.setenv("PATH", str(tmp_path))
    for scorer in ("ours", "sclite"):
        recipe = Decoded(tmp_path, "asr", "--scorer", scorer, "--token_type", "char").recipe
        recipe.options.score_opts = options
        with pytest.raises(UserError, match=message):
            check_needs(recipe, [13])
        check_needs(recipe, [12])


def test_a_tokenizer_of_bleu_that_is_not_there_stops_the_run_at_its_start(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    recipe = Decoded(tmp_path, "st", "--bleu_tokenize", "ja-mecab").recipe
    with pytest.raises(UserError, match="ja-mecab is not installed") as raised:
        check_needs(recipe, [13])
    assert raised.value.exit_code == 2
    check_needs(recipe, [12])


def test_translation_is_scored_against_the_target_in_its_case(tmp_path):
    decoded = Decoded(tmp_path, "st", "--src_lang", "en", "--tgt_lang", "de")
    decoded.write("text.tc.de", {"a": "Spiel Jazz im Büro bitte", "b": "Licht an"})
    decoded.write("text", {"a": "play jazz in the office please", "b": "light on"})
    decoded.decode({"a": "Spiel Jazz im Büro bitte", "b": "Licht an"})
    results = decoded.score()
    assert "(true case)|100.00|" in results
    assert "### WER" not in results


@pytest.mark.parametrize(
    ("options", "tokenizer"), [([], "zh"), (["--bleu_tokenize", "char"], "char")]
)
def test_a_chinese_translation_is_cut_into_words(tmp_path, options, tokenizer):
    decoded = Decoded(tmp_path, "st", "--tgt_lang", "zh", *options)
    decoded.write("text.tc.zh", {"a": "今天天气很好。"})
    decoded.write("text", {"a": "the weather is fine"})
    decoded.decode({"a": "今天天气很好。"})
    results = decoded.score()
    assert "(true case)|100.00|100.00|-|" in results and f"tok:{tokenizer}" in results


def test_a_tokenised_translation_is_joined(tmp_path):
    options = ("--src_lang", "en", "--tgt_lang", "de", "--detokenize", "true")
    decoded = Decoded(tmp_path, "st", *options)
    decoded.write("text.tc.de", {"a": "Spiel Jazz im Büro , bitte ."})
    decoded.decode({"a": "Spiel Jazz im Büro , bitte ."})
    decoded.score()
    text = (decoded.directory / "score_bleu/ref.trn.detok").read_text()
    assert text == "Spiel Jazz im Büro, bitte.\n"


def test_understanding(tmp_path):
    decoded = Decoded(tmp_path, "slu", "--token_type", "word")
    decoded.write("text", {"a": "light_on turn it on", "b": "light_off turn it off"})
    decoded.write("text", {"t": "light_on on", "u": "light_off off"}, "train")
    decoded.decode({"a": "light_on turn it on", "b": "light_on turn it off"})
    results = decoded.score()
    assert "|2|50.00|" in results
    assert "### WER of the words after the intent" in results


def test_an_intent_that_training_does_not_have(tmp_path):
    decoded = Decoded(tmp_path, "slu", "--token_type", "word")
    decoded.write("text", {"a": "Light_on turn it on"})
    decoded.write("text", {"t": "light_on on"}, "train")
    decoded.decode({"a": "light_on turn it on"})
    (decoded.recipe.paths.exp_dir / "RESULTS.md").write_text("of an earlier run\n")
    with pytest.raises(UserError, match="'a' is in the wrong case: 'Light_on', but training has"):
        decoded.score()
    assert not (decoded.recipe.paths.exp_dir / "RESULTS.md").exists()
    assert not list(decoded.directory.glob("score_*/result*"))


def test_an_intent_that_training_does_not_have_can_count_as_wrong(tmp_path):
    options = ("--token_type", "word", "--unknown_intents", "wrong")
    decoded = Decoded(tmp_path, "slu", *options)
    decoded.write("text", {"a": "light_dim turn it down", "b": "light_on turn it on"})
    decoded.write("text", {"t": "light_on on"}, "train")
    decoded.decode({"a": "light_on turn it down", "b": "light_on turn it on"})
    assert "|2|50.00|" in decoded.score()


def test_a_tokenised_summary_is_joined(tmp_path):
    decoded = Decoded(tmp_path, "sum", "--lang", "en", "--detokenize", "true")
    decoded.write("text", {"a": "A well @-@ known sum ."})
    decoded.write("src_text", {"a": "The sum . It is known ."})
    decoded.decode({"a": "A well @-@ known sum ."})
    decoded.score()
    assert (decoded.directory / "score_rouge/ref.trn").read_text() == "A well-known sum.\t(a)\n"


@pytest.mark.parametrize("normalisation", ["rouge", "paper"])
def test_summarisation(tmp_path, normalisation):
    decoded = Decoded(tmp_path, "sum", "--rouge", normalisation)
    decoded.write("text", {"a": "Return the sum.", "b": "Don't sort."})
    decoded.write("src_text", {"a": "The sum. It is returned.", "b": "It sorts. Or not."})
    decoded.decode({"a": "return the sum", "b": "dont sort"})
    results = decoded.score()
    assert "first sentence of the document" in results
    found = json.loads((decoded.directory / "score_rouge/result.json").read_text())
    assert found["normalisation"] == normalisation
    assert (found["model"]["rouge_l"] == 100.0) == (normalisation == "paper")
    assert (decoded.directory / "score_rouge/result.sum").read_text().startswith("RESULT ")


def test_a_heading_is_no_lead(tmp_path):
    decoded = Decoded(tmp_path, "sum", "--heading_mark", "[x]")
    decoded.write("text", {"a": "Return the sum."})
    decoded.write("src_text", {"a": "function sum [x] Return the sum. It is returned."})
    decoded.decode({"a": "sum"})
    decoded.score()
    found = json.loads((decoded.directory / "score_rouge/result.json").read_text())
    assert found["lead"]["rouge_l"] == 100.0 > found["model"]["rouge_l"]


def test_a_score_is_one_record(tmp_path, monkeypatch):
    """A toy score: written by stage 13, in RESULTS.md, and in the comparison of experiments."""

    def lengths(path):
        return sum(len(text.split()) for text in read_table(path).values())

    def write(scored):
        ratio = lengths(scored.hypotheses) / lengths(scored.reference)
        write_json(scored.directory / "length.json", 100 * ratio)

    def read(directory):
        ratio = read_json(directory / "length.json")
        table = Table("### Length", ("ratio",), [["", f"{ratio:.1f}"]])
        return Result(None, {"length_ratio": ratio}, [table])

    toy = Score(
        name="length",
        measures=(Measure("length_ratio", "length %", ".1f"),),
        note="`length %` is that of the hypotheses in words of the references.",
        files=("length.json",),
        read=read,
        write=write,
        outputs=lambda scored: ["length.json"],
        inputs=lambda scored: [scored.reference],
    )
    monkeypatch.setitem(SCORES, "length", toy)
    task = dataclasses.replace(TASKS["asr"], scores=("rates", "length"))
    monkeypatch.setitem(TASKS, "asr", task)
    decoded = Decoded(tmp_path, "asr", "--token_type", "char")
    decoded.write("text", {"a": "one two", "b": "three four"})
    decoded.decode({"a": "one too", "b": "three"})
    assert "### Length\n\n|dataset|ratio|\n|---|---|\n" in decoded.score()
    table = write_comparison(tmp_path)
    assert "length %" in table and " 75.0 |" in table and "WER" not in table
    retire_results(decoded.directory)
    assert not (decoded.directory / "length.json").exists()


def test_a_missing_hypothesis_is_named(tmp_path):
    decoded = Decoded(tmp_path, "sum")
    decoded.write("text", {"a": "x y", "b": "x y"})
    decoded.write("src_text", {"a": "x y", "b": "x y"})
    decoded.decode({"a": "x"})
    with pytest.raises(UserError, match="test/text: no line for 1 of 2 ids: b"):
        decoded.score()
