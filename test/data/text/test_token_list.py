import unicodedata

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.text.token_list import build_token_list, fewest_pieces, use_token_list
from mtla_espnet.files import UserError

# What mini_an4 trains on.
AN4 = ["YES", "GO", "MARCH THIRD NINETEEN TWENTY EIGHT", "START"]


def tokens_of(directory):
    return (directory / "tokens.txt").read_text(encoding="utf-8").split("\n")[:-1]


def test_characters_by_count_then_code_point(tmp_path):
    build_token_list(["ab ba", "b  ç a", "", " "], tmp_path, "char")
    assert tokens_of(tmp_path) == ["<blank>", "<unk>", "<space>", "a", "b", "ç", "<sos/eos>"]
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.txt"]


def test_words_by_count_then_code_point(tmp_path):
    build_token_list(["on the light", "the  off"], tmp_path, "word", oov="<oov>", sos_eos="<s>")
    assert tokens_of(tmp_path) == ["<blank>", "<oov>", "the", "light", "off", "on", "<s>"]


@given(texts=st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_a_character_list_spells_its_texts(tmp_path_factory, texts):
    if not "".join(texts).split():
        return
    directory = tmp_path_factory.mktemp("tokens")
    build_token_list(texts, directory, "char")
    tokens = tokens_of(directory)
    assert len(set(tokens)) == len(tokens)
    assert set("".join("".join(texts).split())) <= set(tokens)


@pytest.mark.parametrize("mode", ["unigram", "bpe"])
def test_pieces_are_those_of_sentencepiece(tmp_path, mode):
    build_token_list(AN4, tmp_path / "ours", "bpe", nbpe=20, bpemode=mode)
    tokens = tokens_of(tmp_path / "ours")
    assert len(tokens) == 20
    assert tokens[:2] == ["<blank>", "<unk>"] and tokens[-1] == "<sos/eos>"
    assert (tmp_path / "ours" / "train.txt").read_text().split("\n")[:-1] == AN4

    # The usual way, from a file and with a prefix, writes the same vocabulary.
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "ours" / "train.txt"), model_prefix=str(tmp_path / "reference"),
        vocab_size=20, model_type=mode, character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    vocabulary = (tmp_path / "reference.vocab").read_bytes()
    assert (tmp_path / "ours" / "bpe.vocab").read_bytes() == vocabulary
    pieces = [line.split("\t")[0] for line in vocabulary.decode().split("\n")[:-1]]
    assert tokens[2:-1] == pieces[3:]
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "ours" / "bpe.model"))
    assert model.decode(model.encode("MARCH THIRD")) == "MARCH THIRD"


def test_the_same_texts_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        build_token_list(AN4, tmp_path / name, "bpe", nbpe=21)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_symbols_are_kept_whole(tmp_path):
    build_token_list(["<laugh> YES", "NO"], tmp_path, "bpe", nbpe=10, bpe_nlsyms=["<laugh>"])
    assert tokens_of(tmp_path)[2] == "<laugh>"
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe.model"))
    assert "<laugh>" in model.encode("YES <laugh> NO", out_type=str)


@pytest.mark.parametrize(
    ("nbpe", "legal"),
    [(30, "19 to 22"), (23, "19 to 22"), (18, "19 or more"), (3, "19 or more"), (-1, "19 or more")],
)
def test_nbpe_out_of_range_tells_the_range(tmp_path, nbpe, legal):
    with pytest.raises(UserError) as error:
        build_token_list(AN4, tmp_path, "bpe", nbpe=nbpe)
    assert str(error.value) == f"nbpe {nbpe} is out of range: this text allows {legal}"
    assert list(tmp_path.iterdir()) == []
    build_token_list(AN4, tmp_path, "bpe", nbpe=19)
    build_token_list(AN4, tmp_path, "bpe", nbpe=22)


def test_a_tokenizer_decides_what_a_unit_is(tmp_path):
    build_token_list(
        ["a-b a", "b-a a"], tmp_path / "given", "char", tokenize=lambda x: x.split("-")
    )
    assert tokens_of(tmp_path / "given")[2:-1] == ["a", "a a", "b", "b a"]
    build_token_list(["AH B AH"], tmp_path / "phn", "phn")
    assert tokens_of(tmp_path / "phn")[2:-1] == ["AH", "B"]


@given(st.lists(st.text(alphabet="abc dé字", min_size=1), min_size=1, max_size=6))
def test_the_fewest_pieces_are_foretold(tmp_path_factory, texts):
    texts = [f"a {text}" for text in texts]
    directory = tmp_path_factory.mktemp("bpe")
    fewest = fewest_pieces(texts)
    if fewest is not None:
        with pytest.raises(UserError, match=rf"this text allows {fewest}( to|$| or more)"):
            build_token_list(texts, directory, "bpe", nbpe=fewest - 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_type": "hgf"}, "token_type 'hgf' is not supported: use bpe, char, word, phn"),
        ({"token_type": "bpe", "bpemode": "x"}, "bpemode 'x' is not supported: use unigram or"),
        ({"token_type": "bpe", "bpe_char_cover": 0.0}, "bpe_char_cover must be above 0"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        build_token_list(AN4, tmp_path, **options)


def warnings_of_bpe(lines, directory, caplog):
    build_token_list(lines, directory, "bpe", nbpe=fewest_pieces(lines), bpemode="bpe")
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("text", "becomes", "advice"),
    [
        (unicodedata.normalize("NFD", "ngày một"), "ngày một", "form NFKC"),
        (unicodedata.normalize("NFD", "한국 날씨"), "한국 날씨", "form NFKC"),
        ("ＦＭ ９", "FM 9", "form NFKC"),
        ("½ ﬁ", "1⁄2 fi", "form NFKC"),
        ("a ▅", "a  ⁇ ", "bpe_char_cover"),
    ],
)
def test_lines_that_are_not_given_back_are_told_with_their_share(
    tmp_path, caplog, text, becomes, advice
):
    lines = ["a b", "b a", "a a b", text]
    (said,) = warnings_of_bpe(lines, tmp_path, caplog)
    assert said.startswith(f"{tmp_path}/bpe.model: cannot give back 25 % of the lines, such as ")
    assert f"{text!r}, which becomes {becomes!r}" in said and advice in said


def test_lines_that_are_given_back_are_not_told(tmp_path, caplog):
    lines = ["über  das	Meer", "今天 天气", "за морем", "a"] * 9
    assert warnings_of_bpe(lines, tmp_path, caplog) == []


@pytest.mark.parametrize("others", [[], ["rain in the north"] * 9])
@pytest.mark.parametrize("blank", [" ", ""])
def test_long_lines_are_trained_on(tmp_path, caplog, others, blank):
    """Longer than what sentencepiece reads by itself, also without blanks."""
    lines = [*others, blank.join(["köln im regen"] * 900)]
    assert warnings_of_bpe(lines, tmp_path, caplog) == []
    assert any("ö" in token for token in tokens_of(tmp_path))


def test_no_text_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no text to make a token list from"):
        build_token_list(["", "  "], tmp_path, "char")


def test_a_model_that_is_there_is_used(tmp_path):
    build_token_list(["ON OFF UP", "DOWN UP"] * 3, tmp_path / "made", "bpe", nbpe=12)
    pieces = (tmp_path / "made/tokens.txt").read_text().split("\n")[2:-2]
    model = tmp_path / "made/bpe.model"
    use_token_list(model, pieces[::-1], tmp_path / "used", blank="<b>")
    assert (tmp_path / "used/bpe.model").read_bytes() == model.read_bytes()
    tokens = (tmp_path / "used/tokens.txt").read_text().split("\n")
    assert tokens == ["<b>", "<unk>", *pieces[::-1], "<sos/eos>", ""]
    with pytest.raises(UserError, match="bpe.model: has none of the pieces"):
        use_token_list(model, ["zz"], tmp_path / "bad")
    (tmp_path / "no.model").write_text("no")
    with pytest.raises(UserError, match="no.model: is no sentencepiece model"):
        use_token_list(tmp_path / "no.model", pieces, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
