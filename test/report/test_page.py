import json
import re
from html.parser import HTMLParser

import pytest

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.report.comparison import write_comparison
from mtla_espnet.report.examples import find_examples
from mtla_espnet.score.rouge import score_summaries
from mtla_espnet.score.wer import score_set

REFERENCES = {"s-1": "a <b> c & d", "s-2": "a b c d", "s-3": "a b c"}
HYPOTHESES = {
    "mha": {"s-1": "a <b> c & d", "s-2": "a b x d", "s-3": "a b c"},
    "mtla": {"s-1": "a x x & d", "s-2": "a b x d", "s-3": "a x c"},
}


class Reader(HTMLParser):
    """Collects the cells of each table, and what the page would load."""

    def __init__(self):
        super().__init__()
        self.tables, self.loaded, self.script = [], [], False

    def handle_starttag(self, tag, attributes):
        self.loaded += [value for name, value in attributes if name in ("src", "href")]
        self.script = tag == "script"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        self.script = self.script and tag != "script"

    def handle_data(self, data):
        if self.tables and self.tables[-1] and self.tables[-1][-1] and not self.script:
            self.tables[-1][-1][-1] += data.strip("\n")


@pytest.fixture
def recipe(experiments):
    for kind in HYPOTHESES:
        experiment = experiments.add(f"asr_{kind}", kind)
        directory = next(experiment.glob("*/test"))
        write_table(directory / "ref", REFERENCES)
        write_table(directory / "text", HYPOTHESES[kind])
        write_table(directory / "utt2spk", {key: "s" for key in REFERENCES})
        score_set(*(directory / name for name in ("ref", "text", "utt2spk")), directory)
        log = "1epoch results: [train] loss=3, [valid] loss=2.5, acc=0.5, time=1 seconds"
        (experiment / "train.log").write_text(log)
    return experiments.directory


def read(recipe):
    text = (recipe / "exp/comparison.html").read_text()
    reader = Reader()
    reader.feed(text)
    return text, reader


def test_the_page_holds_all_that_it_shows(recipe):
    write_comparison(recipe)
    text, page = read(recipe)
    assert page.loaded == []
    table, examples = page.tables
    assert table[0][:4] == ["model", "parameters", "Snt", "WER %"]
    assert [row[0] for row in table[1:]] == ["mha", "mtla s=1"[:4]]
    assert len({len(row) for row in table}) == 1
    assert "Learning curves" in text and '"asr_mtla"' in text
    assert examples[1:4] == [
        ["s-s-1", "reference", "", "a <b> c & d"],
        ["", "mha", "0.0", "a <b> c & d"],
        ["", "mtla", "40.0", "a x x & d"],
    ]
    assert len(examples) == 1 + 2 * 3  # on s-2 they do not differ
    assert (recipe / "exp/comparison.html").stat().st_size < 8e6


def test_curves_have_the_colour_of_their_kind_and_a_dash_for_their_configuration(experiments):
    for tag, kind in (("a", "mha"), ("a-2", "mha"), ("b", "mla"), ("c", "mha")):
        experiment = experiments.add(f"asr_{tag}", kind)
        log = "1epoch results: [train] loss=3, [valid] loss=2.5, acc=0.5, time=1 seconds"
        (experiment / "train.log").write_text(log)
    experiments.configure("asr_c", "mha", dropout_rate=0.3)
    write_comparison(experiments.directory)
    text, _ = read(experiments.directory)
    curves = text[text.index("Learning curves") :]
    found = re.findall(r'"line":(\{[^}]*\})[^}]*\}[^}]*"name":"asr_([^"]*)"', curves)
    lines = {name: json.loads(line) for line, name in found}
    assert lines["a"] == lines["a-2"] and lines["a"]["dash"] == lines["b"]["dash"] == "solid"
    assert lines["a"]["color"] == lines["c"]["color"] != lines["b"]["color"]
    assert lines["c"]["dash"] == "dash"


def test_names_of_experiments_are_text(recipe):
    (recipe / "exp/asr_mtla").rename(recipe / "exp/<script>alert(1)<script>")
    write_comparison(recipe)
    text, _ = read(recipe)
    body = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "alert(1)" not in re.sub(r"&lt;script&gt;alert\(1\)", "", body)


def test_the_page_is_written_without_scores_by_item(experiments):
    for kind in ("mha", "mtla"):
        experiments.add(f"asr_{kind}", kind)
        experiments.score_intents(f"asr_{kind}", 2)
    write_comparison(experiments.directory)
    text, page = read(experiments.directory)
    assert len(page.tables) == 1 and "Where the models differ most" not in text


def test_examples_of_summaries(tmp_path):
    for name, text in (("one", "the cat sat"), ("two", "a dog ran")):
        (tmp_path / name).mkdir()
        write_table(tmp_path / "ref", {"x": "the cat sat"})
        write_table(tmp_path / name / "text", {"x": text})
        score_summaries(tmp_path / "ref", tmp_path / name / "text", tmp_path / name)
    (example,) = find_examples([tmp_path / "one", tmp_path / "two"], "rouge_l")
    assert (example.name, example.reference) == ("x", "the cat sat")
    assert example.texts == ["the cat sat", "a dog ran"] and example.values == [100.0, 0.0]
