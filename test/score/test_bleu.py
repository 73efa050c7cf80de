import json
import os
import subprocess
import sys

import pytest
import sacrebleu

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError
from mtla_espnet.score.bleu import read_bleu, score_translation

REFERENCES = {
    "amy-1": "Schalte das Licht in der Küche aus, bitte.",
    "amy-2": "Spiel Jazz im Büro!",
    "bob-1": "Wie wird das Wetter morgen?",
}
HYPOTHESES = {
    "amy-1": "Schalte das licht in der Küche an, bitte.",
    "amy-2": "Spiel Jazz im Büro",
    "bob-1": "Wie ist das Wetter morgen?",
}
SPEAKERS = {"amy-1": "amy", "amy-2": "amy", "bob-1": "bob"}


@pytest.fixture
def tables(tmp_path):
    for name, table in (("text", REFERENCES), ("hyp", HYPOTHESES), ("utt2spk", SPEAKERS)):
        write_table(tmp_path / name, table)
    return tmp_path


def score(tables, **options):
    return score_translation(
        tables / "text", tables / "hyp", tables / "utt2spk", tables / "out", **options
    )


def test_scores_are_those_of_sacrebleus_functions(tables):
    results = score(tables)
    hypotheses, references = list(HYPOTHESES.values()), [list(REFERENCES.values())]
    bleu, chrf, ter = results["tc"]
    assert bleu["score"] == round(sacrebleu.corpus_bleu(hypotheses, references).score, 2)
    assert chrf["score"] == round(sacrebleu.corpus_chrf(hypotheses, references).score, 2)
    expected = sacrebleu.corpus_ter(hypotheses, references, case_sensitive=True)
    assert ter["score"] == round(expected.score, 2)
    assert "case:mixed|eff:no|tok:13a|smooth:exp|version:" in bleu["signature"]
    assert [score["name"] for score in results["lc"]] == ["BLEU", "chrF2", "TER"]
    assert "case:lc" in results["lc"][0]["signature"]
    assert results["lc"][0]["score"] > bleu["score"]


def test_the_program_of_sacrebleu_agrees_on_the_files(tables):
    score(tables)
    directory = tables / "out/score_bleu"
    done = subprocess.run(
        [sys.executable, "-m", "sacrebleu", "ref.trn.detok.lc.rm", "-i", "hyp.trn.detok.lc.rm",
         "-lc", "-m", "bleu", "chrf", "ter", "-w", "2"],
        cwd=directory, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONIOENCODING": "UTF-8"},
    )  # fmt: skip
    theirs = {each["name"]: each for each in json.loads(done.stdout)}
    ours = read_bleu(directory / "result.lc.txt")
    for name, each in theirs.items():
        assert ours[name]["score"] == each["score"]
        assert ours[name].get("verbose_score") == each.get("verbose_score")
    assert ours["BLEU"]["signature"] == theirs["BLEU"]["signature"]


def test_the_files_have_espnets_names_and_lines(tables):
    score(tables)
    directory = tables / "out/score_bleu"
    lines = {path.name: path.read_text().splitlines() for path in directory.glob("*.trn*")}
    assert lines["ref.trn.org"][1] == "Spiel Jazz im Büro!\t(amy-amy-2)"
    assert lines["ref.trn"] == lines["ref.trn.detok"] == list(REFERENCES.values())
    assert lines["hyp.trn"][2] == "Wie ist das Wetter morgen?"
    assert lines["ref.trn.detok.lc.rm"][0] == "schalte das licht in der küche aus bitte"
    title, text = (directory / "result.tc.txt").read_text().split("\n", 1)
    assert title == "Case sensitive BLEU result (single-reference)"
    assert json.loads(text)[0]["nrefs"] == "1"


def test_a_detokenizer_is_applied_to_both_sides(tables):
    tokenized = {key: text.replace("?", " ?") for key, text in REFERENCES.items()}
    write_table(tables / "text", tokenized)
    write_table(tables / "hyp", tokenized)
    score(tables, detokenizer=lambda text: text.replace(" ?", "?"))
    directory = tables / "out/score_bleu"
    assert (directory / "hyp.trn").read_text().splitlines()[2].endswith("morgen ?")
    assert (directory / "hyp.trn.detok").read_text().splitlines()[2].endswith("morgen?")
    assert read_bleu(directory / "result.tc.txt")["BLEU"]["score"] == 100.0


def test_a_lower_case_target_has_no_case_sensitive_result(tables):
    write_table(tables / "text", {key: text.lower() for key, text in REFERENCES.items()})
    assert set(score(tables, case="lc")) == {"lc"}
    assert not (tables / "out/score_bleu/result.tc.txt").exists()


def test_an_older_result_is_kept_and_the_same_one_is_not(tables):
    directory = tables / "out/score_bleu"
    texts = []
    for hypothesis in ("Spiel Jazz", "Spiel Pop im Büro", "Spiel Jazz im Büro!"):
        write_table(tables / "hyp", HYPOTHESES | {"amy-2": hypothesis})
        score(tables)
        score(tables)
        texts.append((directory / "result.tc.txt").read_text())
    assert sorted(path.name for path in directory.glob("result.tc*")) == [
        "result.tc.1.txt",
        "result.tc.2.txt",
        "result.tc.txt",
    ]
    assert (directory / "result.tc.1.txt").read_text() == texts[1]
    assert (directory / "result.tc.2.txt").read_text() == texts[0]


@pytest.mark.parametrize(
    ("name", "table", "case", "message"),
    [
        ("hyp", HYPOTHESES | {"bob-2": "C"}, "tc", "text: no line for 1 of 4 ids: bob-2"),
        ("hyp", {"amy-1": "A", "bob-1": "B"}, "tc", "hyp: no line for 1 of 3 ids: amy-2"),
        ("text", REFERENCES, "lc", "text: 'amy-1' is not in the case lc: 'Schalte"),
        ("text", REFERENCES, "upper", "tc, lc or lc.rm, not upper"),
        (
            "text",
            {key: text.lower() for key, text in REFERENCES.items()},
            "tc",
            "no reference has an upper-case letter",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tables, name, table, case, message):
    write_table(tables / name, table)
    with pytest.raises(UserError, match=message):
        score(tables, case=case)
    assert not (tables / "out").exists()


@pytest.mark.parametrize("text", ["", "title only", "title\n[1]\n", 'title\n[{"name": "TER"}]\n'])
def test_a_broken_result_is_named(tmp_path, text):
    (tmp_path / "result.tc.txt").write_text(text)
    with pytest.raises(UserError, match="result.tc.txt: .*score it again"):
        read_bleu(tmp_path / "result.tc.txt")


def test_a_result_of_bleu_alone_is_read(tmp_path):
    one = {"name": "BLEU", "score": 23.2, "verbose_score": "a/b"}
    (tmp_path / "r").write_text("title\n" + json.dumps(one))
    assert read_bleu(tmp_path / "r")["BLEU"]["score"] == 23.2
