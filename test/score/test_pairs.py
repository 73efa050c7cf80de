import pytest

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError
from mtla_espnet.score.pairs import check_ids, read_pairs, read_speakers


def test_pairs_are_by_id_in_the_order_of_the_references(tmp_path):
    write_table(tmp_path / "ref", {"a": "x", "b": "y"})
    write_table(tmp_path / "hyp", {"b": "z", "a": ""})
    references, hypotheses = read_pairs(tmp_path / "ref", tmp_path / "hyp")
    assert list(references.items()) == [("a", "x"), ("b", "y")]
    assert list(hypotheses.items()) == [("a", ""), ("b", "z")]


@pytest.mark.parametrize(
    ("hypotheses", "message"),
    [
        ({"a": "x"}, "hyp: no line for 1 of 2 ids: b "),
        ({"a": "x", "b": "y", "c": "z"}, "ref: no line for 1 of 3 ids: c "),
    ],
)
def test_an_id_on_one_side_is_named(tmp_path, hypotheses, message):
    write_table(tmp_path / "ref", {"a": "x", "b": "y"})
    write_table(tmp_path / "hyp", hypotheses)
    with pytest.raises(UserError, match=message):
        read_pairs(tmp_path / "ref", tmp_path / "hyp")


def test_nothing_to_score(tmp_path):
    for name in ("ref", "hyp"):
        write_table(tmp_path / name, {})
    with pytest.raises(UserError, match="ref: empty file"):
        read_pairs(tmp_path / "ref", tmp_path / "hyp")


def test_speakers_of_the_wanted_ids_only(tmp_path):
    write_table(tmp_path / "utt2spk", {"a": "s", "b": "t", "c": "u"})
    assert list(read_speakers(tmp_path / "utt2spk", {"b": 1, "a": 1}).items()) == [
        ("b", "t"),
        ("a", "s"),
    ]
    with pytest.raises(UserError, match="utt2spk: no speaker of 1 of 1 ids: d"):
        read_speakers(tmp_path / "utt2spk", {"d": 1})


def test_many_missing_ids_are_cut():
    with pytest.raises(UserError, match=r"f: 9 of 9 ids: 0, 1, 2, 3, 4 \.\.\. \(do\)$"):
        check_ids({str(number): "" for number in range(9)}, {}, "f:", "do")
