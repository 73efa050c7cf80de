import re

import jiwer
import pytest
import sentencepiece

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError
from mtla_espnet.score.wer import score_set

REFERENCES = {
    "amy-1": "TURN THE LIGHT ON",
    "amy-2": "stop",
    "bob-1": "play some music please",
    "bob-2": "",
}
HYPOTHESES = {
    "amy-1": "turn light on",
    "amy-2": "stop",
    "bob-1": "play sum music please now",
    "bob-2": "",
}
SPEAKERS = {"amy-1": "amy", "amy-2": "amy", "bob-1": "bob", "bob-2": "bob", "carl-1": "carl"}


@pytest.fixture
def tables(tmp_path):
    paths = {}
    contents = {"text": REFERENCES, "hyp/text": HYPOTHESES, "utt2spk": SPEAKERS}
    for name, content in contents.items():
        write_table(tmp_path / name, content)
        paths[name] = tmp_path / name
    return paths


def score(tables, output, **options):
    return score_set(tables["text"], tables["hyp/text"], tables["utt2spk"], output, **options)


def test_words_and_characters(tables, tmp_path):
    totals = score(tables, tmp_path / "out")
    assert set(totals) == {"wer", "cer"}
    wer = totals["wer"]
    assert (wer.sentences, wer.wrong_sentences) == (4, 2)
    assert wer.numbers == (7, 1, 1, 1, 3, 2)
    references = [text.lower() for text in REFERENCES.values() if text]
    hypotheses = [HYPOTHESES[key] for key, text in REFERENCES.items() if text]
    assert wer.error_rate == jiwer.wer(references, hypotheses)
    assert totals["cer"].error_rate == jiwer.cer(references, hypotheses)
    trn = (tmp_path / "out/score_wer/ref.trn").read_text()
    assert trn.splitlines()[0] == "TURN THE LIGHT ON\t(amy-amy-1)"
    assert trn.splitlines()[3] == "\t(bob-bob-2)"
    characters = (tmp_path / "out/score_cer/hyp.trn").read_text().splitlines()[0]
    assert characters == "t u r n <space> l i g h t <space> o n\t(amy-amy-1)"
    result = (tmp_path / "out/score_wer/result.txt").read_text()
    (row,) = [line for line in result.splitlines() if line.startswith("| Sum/Avg |")]
    assert " ".join(row.split()) == "| Sum/Avg | 4 9 | 77.8 11.1 11.1 11.1 33.3 50.0 |"
    assert "carl" not in result


def test_pieces_of_a_bpe_model(tables, tmp_path):
    sentences = [text.lower() for text in REFERENCES.values()] * 20
    (tmp_path / "train.txt").write_text("\n".join(sentences))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "train.txt"),
        model_prefix=str(tmp_path / "bpe"),
        vocab_size=22,
        minloglevel=2,
    )
    totals = score(tables, tmp_path / "out", bpemodel=tmp_path / "bpe.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe.model"))
    pieces = processor.encode_as_pieces(HYPOTHESES["bob-1"])
    assert pieces[0].startswith("▁")
    lines = (tmp_path / "out/score_ter/hyp.trn").read_text(encoding="utf-8").splitlines()
    assert lines[2] == " ".join(pieces) + "\t(bob-bob-1)"
    expected = sum(len(processor.encode_as_pieces(text)) for text in REFERENCES.values())
    assert totals["ter"].counts.reference == expected


def test_case_matters_where_sclite_is_told_so(tables, tmp_path):
    assert score(tables, tmp_path / "default")["wer"].numbers == (7, 1, 1, 1, 3, 2)
    totals = score(tables, tmp_path / "case", score_opts=["-s"])
    assert totals["wer"].numbers == (4, 4, 1, 1, 6, 2)
    drawn = (tmp_path / "case/score_wer/alignment.txt").read_text()
    assert "REF: TURN  THE LIGHT ON\nHYP: **** turn light on\n        D    S     S  S\n" in drawn
    with pytest.raises(UserError, match="--score_opts -F: our own scorer knows -s alone") as raised:
        score(tables, tmp_path / "other", score_opts=["-s", "-F"])
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "other").exists()


def test_the_alignments_are_drawn_by_id(tables, tmp_path):
    score(tables, tmp_path)
    text = (tmp_path / "score_wer/alignment.txt").read_text()
    assert re.findall("^=== (.*) ===$", text, re.MULTILINE) == list(REFERENCES)
    assert (
        "=== bob-1 ===\n\n"
        "REF: play some music please ***\n"
        "HYP: play  sum music please now\n"
        "             S                I\n"
    ) in text
    characters = (tmp_path / "score_cer/alignment.txt").read_text()
    assert "=== amy-2 ===\n\nREF: s t o p\nHYP: s t o p\n" in characters


def test_espnet_finds_the_rates_in_our_experiments(tables, tmp_path):
    # As its show_asr_result.sh does: the lines with `Avg` of every <decode>/<set>/score_<kind>,
    # without the path and `Sum/Avg`, bars and runs of blanks become one bar.
    score(tables, tmp_path / "exp/asr_x/decode_asr/test")
    rows = []
    for path in (tmp_path / "exp/asr_x").glob("*/*/score_wer/result.txt"):
        name = "/".join(path.parts[-4:-2])
        (line,) = [line for line in path.read_text().splitlines() if "Avg" in line]
        rest = f"|{name}{line}".replace("Sum/Avg", "")
        rows.append(re.sub(r"[ |]+", "|", rest))
    assert rows == ["|decode_asr/test|4|9|77.8|11.1|11.1|11.1|33.3|50.0|"]


def test_the_cleaner_touches_references_only(tables, tmp_path):
    totals = score(tables, tmp_path, cleaner=lambda text: text.lower().replace("some", "sum"))
    assert totals["wer"].numbers == (8, 0, 1, 1, 2, 2)
    assert "play sum music please\t" in (tmp_path / "score_wer/ref.trn").read_text()


def test_non_linguistic_symbols_are_no_text(tables, tmp_path):
    plain = score(tables, tmp_path / "plain")
    marked = {key: f"<en> {text.replace(' ', ' <noise>')}" for key, text in REFERENCES.items()}
    write_table(tables["text"], marked)
    heard = {key: f"<fr>{text} <noise>" for key, text in HYPOTHESES.items()}
    write_table(tables["hyp/text"], heard)
    symbols = ["<en>", "<fr>", "<noise>"]
    assert score(tables, tmp_path / "marked", symbols=symbols) == plain
    files = [
        (tmp_path / each / "score_cer/result.txt").read_bytes() for each in ("plain", "marked")
    ]
    assert files[0] == files[1]


def test_the_same_bytes_twice(tables, tmp_path):
    score(tables, tmp_path / "a")
    score(tables, tmp_path / "b")
    for path in (tmp_path / "a").rglob("*.t*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("hyp/text", {**HYPOTHESES, "dan-1": "x"}, "text: no line for 1 of 5 ids: dan-1"),
        ("hyp/text", {"amy-1": "x"}, "hyp/text: no line for 3 of 4 ids: amy-2, bob-1, bob-2"),
        ("utt2spk", {"amy-1": "amy"}, "utt2spk: no speaker of 3 of 4 ids: amy-2"),
        ("text", {}, "text: empty file"),
    ],
)
def test_ids_that_do_not_match_are_named(tables, tmp_path, name, content, message):
    write_table(tables[name], content)
    with pytest.raises(UserError, match=message):
        score(tables, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_named(tables, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="none.model: no such BPE model"):
        score(tables, tmp_path / "out", bpemodel=tmp_path / "none.model")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sclite is not installed"):
        score(tables, tmp_path / "out", scorer="sclite")


def test_sclite_where_it_is_asked_for(tables, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "sclite"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        '[ "$*" = "-F -D -r ref.trn trn -h hyp.trn trn -i rm -o all stdout" ] || exit 2\n'
        "[ -s ref.trn ] && [ -s hyp.trn ] || exit 3\n"
        "echo '| Sum/Avg|  4  9 | 77.8 11.1 11.1 11.1 33.3 50.0 |'\n"
        "echo '| Sum  |  4  9 | 7 1 1 1 3 2 |'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    totals = score(tables, tmp_path / "out", scorer="sclite", score_opts=["-F", "-D"])
    assert (tmp_path / "out/score_wer/alignment.txt").exists()
    assert totals["wer"].numbers == (7, 1, 1, 1, 3, 2)
    program.write_text("#!/bin/sh\necho 'Error: broken' >&2\nexit 1\n")
    with pytest.raises(UserError, match="score_wer: sclite failed: Error: broken"):
        score(tables, tmp_path / "out", scorer="sclite")
