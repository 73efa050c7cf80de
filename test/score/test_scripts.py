"""Every score on texts of many scripts, against references that do not share its code."""

import importlib.util
import json
import logging

import jiwer
import pytest
import sacrebleu

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError
from mtla_espnet.score import bleu
from mtla_espnet.score.intent import score_intents
from mtla_espnet.score.rouge import score_summaries, words_of
from mtla_espnet.score.wer import score_set
from reference.rouge import rouge

# script -> reference, a hypothesis with some of it wrong, sacrebleu's tokenizer (where the packages
# for Japanese and Korean are not installed), and the reference's first words for ROUGE.
TEXTS = {
    "latin": (
        "Über den Wolken ist die Freiheit groß.",
        "Über den Wolken war die Freiheit groß.",
        "13a",
        "über den wolken",
    ),
    "cyrillic": (
        "Сегодня мы идём гулять в большой парк.",
        "Сегодня мы пошли гулять в большой парк.",
        "13a",
        "сегодня мы идём",
    ),
    "greek": (
        "Το φως στην κουζίνα είναι σβηστό.",
        "Το φως στην σάλα είναι σβηστό.",
        "13a",
        "το φως στην",
    ),
    "arabic": (
        "ذهب الولد إلى المدرسة في الصباح.",
        "ذهب الولد إلى البيت في الصباح.",
        "13a",
        "ذهب الولد إلى",
    ),
    "hebrew": ("הילד הלך היום אל בית הספר.", "הילד הלך אתמול אל בית הספר.", "13a", "הילד הלך היום"),
    "georgian": (
        "დღეს ძალიან კარგი ამინდია ქალაქში.",
        "დღეს ძალიან ცუდი ამინდია ქალაქში.",
        "13a",
        "დღეს ძალიან კარგი",
    ),
    "devanagari": ("आज मौसम बहुत अच्छा है।", "आज मौसम बहुत खराब है।", "13a", "आज मौसम बहुत"),
    "chinese": ("明天下午我们一起去图书馆。", "明天上午我们一起去图书馆。", "zh", "明 天 下"),
    "japanese": (
        "明日の午後は図書館に行きます。",
        "明日の午前は図書館に行きます。",
        "char",
        "明 日 の",
    ),
    "korean": (
        "내일 오후에 우리는 도서관에 갑니다.",
        "내일 오전에 우리는 도서관에 갑니다.",
        "13a",
        "내일 오후에 우리는",
    ),
    "thai": ("พรุ่งนี้เราจะไปห้องสมุด", "พรุ่งนี้เขาจะไปห้องสมุด", "char", "พ รุ่ ง"),
}
SCRIPTS = pytest.mark.parametrize("script", TEXTS)
UNSPACED = ("chinese", "japanese", "thai")


@pytest.fixture(autouse=True)
def no_packages_for_japanese_and_korean(monkeypatch):
    """Leaves the tests the same where these packages are installed."""
    find = importlib.util.find_spec
    there = lambda name: None if name in ("MeCab", "mecab_ko") else find(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", there)


@pytest.fixture
def write(tmp_path):
    """Writes the tables of one or more sentences; returns their paths."""

    def write_tables(references, hypotheses):
        for name, lines in (("text", references), ("hyp", hypotheses)):
            write_table(tmp_path / name, {f"s-{i}": line for i, line in enumerate(lines)})
        write_table(tmp_path / "utt2spk", {f"s-{i}": "s" for i in range(len(references))})
        return [tmp_path / name for name in ("text", "hyp", "utt2spk", "out")]

    return write_tables


@SCRIPTS
def test_word_and_character_errors(write, script):
    reference, hypothesis, *_ = TEXTS[script]
    totals = score_set(*write([reference], [hypothesis]))
    assert totals["wer"].error_rate == pytest.approx(jiwer.wer(reference, hypothesis))
    assert totals["cer"].error_rate == pytest.approx(jiwer.cer(reference, hypothesis))
    if script in UNSPACED:  # a sentence is one word, as in ESPnet's tables
        assert totals["wer"].counts.reference == 1


@SCRIPTS
@pytest.mark.parametrize("blanks", ["  ", "\t", "\u3000", " \u00a0"])
def test_blanks_are_one_blank(write, script, blanks):
    reference, *_ = TEXTS[script]
    spaced = reference + " " + reference
    totals = score_set(*write([spaced.replace(" ", blanks)], [spaced]))
    assert [totals[rate].counts.errors for rate in ("wer", "cer")] == [0, 0]


def test_the_case_of_ascii_letters_alone_is_ignored(write):
    totals = score_set(*write(["HELLO WORLD Привет"], ["hello World привет"]))
    assert totals["wer"].numbers == (2, 1, 0, 0, 1, 1)


@SCRIPTS
def test_translations(write, script):
    reference, hypothesis, tokenizer, _ = TEXTS[script]
    references, hypotheses = [reference] * 2, [hypothesis, reference]
    found = {
        each["name"]: each for each in bleu.score_translation(*write(references, hypotheses))["tc"]
    }
    expected = sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenizer)
    assert found["BLEU"]["score"] == round(expected.score, 2) > 50
    assert f"tok:{tokenizer}|" in found["BLEU"]["signature"]
    expected = sacrebleu.corpus_chrf(hypotheses, [references])
    assert found["chrF2"]["score"] == round(expected.score, 2) > 50
    assert ("TER" in found) == (script not in UNSPACED)
    if "TER" in found:
        assert found["TER"]["score"] < 20


@SCRIPTS
def test_intents(write, script):
    reference, hypothesis, *_ = TEXTS[script]
    scores, words = score_intents(
        *write([f"a_x {reference}"] * 2, [f"a_x {hypothesis}", reference])
    )
    assert scores.intent.accuracy == 0.5
    expected = jiwer.wer([reference] * 2, [hypothesis, reference.partition(" ")[2]])
    assert words.error_rate == pytest.approx(expected)


def plain_words(text, script):
    """Words without rouge-score: letters of scripts without blanks, else what blanks part."""
    text = "".join(c for c in text if c not in ".。।")
    if script not in UNSPACED:
        return text.lower().split()
    marks = "\u0e31\u0e34\u0e35\u0e36\u0e37\u0e38\u0e39\u0e47\u0e48\u0e49\u0e4a\u0e4b\u0e4c\u0e4d"
    for mark in marks:
        text = text.replace(mark, f"\0{mark}")
    return [letter.replace("\0", "") for letter in _clusters(text)]


def _clusters(text):
    found = []
    for character in text:
        if found and (character == "\0" or found[-1].endswith("\0")):
            found[-1] += character
        else:
            found.append(character)
    return found


@SCRIPTS
@pytest.mark.parametrize("normalisation", ["rouge", "paper"])
def test_summaries(write, script, normalisation):
    reference, hypothesis, _, first = TEXTS[script]
    text, hyp, _, out = write([reference, reference], [hypothesis, reference])
    result = score_summaries(text, hyp, out, normalisation=normalisation)
    words, other = plain_words(reference, script), plain_words(hypothesis, script)
    assert " ".join(words[:3]) == first
    expected = [(value + 100) / 2 for value in rouge(words, other)]
    found = (result.model.rouge_1, result.model.rouge_2, result.model.rouge_l)
    assert found == pytest.approx(expected, abs=1e-3)
    assert result.words == "unicode"


def test_english_summaries_stay_those_of_rouge_score():
    english = "The singer Beyoncé returned to the stage on Sunday. " + "A b c d e f g. " * 40
    assert words_of([english]) == "english"


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [("zh", "zh"), ("zh_TW", "zh"), ("cmn", "zh"), ("ja", "char"), ("ko", "13a"), ("th", "char")],
)
def test_the_language_decides_before_the_script(caplog, language, tokenizer):
    with caplog.at_level(logging.WARNING):
        assert bleu.tokenizer_of(language, ["just Latin letters"]) == tokenizer
    missing = {"ja": "sacrebleu[ja]", "ko": "sacrebleu[ko]"}.get(language)
    assert [missing in each for each in caplog.messages] == ([True] if missing else [])


def test_a_tokenizer_that_is_asked_for(write):
    reference, hypothesis, *_ = TEXTS["chinese"]
    tables = write([reference], [hypothesis])
    bleu.score_translation(*tables, tokenizer="char")
    score = bleu.read_bleu(tables[-1] / "score_bleu/result.tc.txt")["BLEU"]
    assert "tok:char|" in score["signature"]
    for name, message in (
        (
            "ja-mecab",
            r"ja-mecab is not installed \(pip install 'sacrebleu\[ja\]'\)",
        ),
        ("flores200", "BLEU's tokenizer is one of 13a, .*, not 'flores200'"),
    ):
        with pytest.raises(UserError, match=message):
            bleu.score_translation(*tables, tokenizer=name)


@pytest.mark.parametrize(
    "references",
    [
        ["我用wifi上网。", "今天天气很好。"],
        ["დღეს კარგი ამინდია", "კარგი"],
        ["ذهب الولد إلى wifi"],
        ["อากาศดี usb"],
        ["", ""],
        ["12 34"],
    ],
)
def test_texts_without_case_are_in_true_case(write, references):
    found = bleu.score_translation(*write(references, references))
    assert found["tc"][0]["score"] in (100.0, 0.0)  # 0 where there is no word


@pytest.mark.parametrize("references", [["привет, мир"], ["το φως"], ["hola wifi 天"]])
def test_small_letters_of_scripts_with_case_are_not_in_true_case(write, references):
    with pytest.raises(UserError, match="no reference has an upper-case letter"):
        bleu.score_translation(*write(references, references))


def test_empty_hypotheses_and_references(write):
    references, hypotheses = ["Ein Licht.", "Noch eins."], ["", ""]
    totals = score_set(*write(references, hypotheses))
    assert totals["wer"].error_rate == totals["cer"].error_rate == 1.0
    found = bleu.score_translation(*write(references, hypotheses))
    assert {each["name"]: each["score"] for each in found["tc"]} == {
        "BLEU": 0.0, "chrF2": 0.0, "TER": 100.0,
    }  # fmt: skip
    text, hyp, _, out = write(references, hypotheses)
    assert score_summaries(text, hyp, out).model.rouge_1 == 0.0
    totals = score_set(*write(["", ""], ["", ""]))
    assert totals["wer"].error_rate is None


def test_very_long_lines(write, caplog):
    reference = " ".join(f"w{number % 97}" for number in range(400))
    hypothesis = reference.replace("w5 ", "v5 ")
    tables = write([f"A {reference}"], [f"A {hypothesis}"])
    totals = score_set(*tables)
    assert totals["wer"].counts.errors == hypothesis.count("v5")
    assert totals["cer"].counts.errors == hypothesis.count("v5")
    found = bleu.score_translation(*tables)["tc"]
    assert [each["name"] for each in found] == ["BLEU", "chrF2"]
    assert "no TER: a sentence has 401 words, more than 300" in caplog.messages
    lines = (tables[-1] / "score_bleu/result.tc.txt").read_text().partition("\n")[2]
    assert len(json.loads(lines)) == 2
    text, hyp, _, out = tables
    assert 90 < score_summaries(text, hyp, out).model.rouge_l < 100
