import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.kaldi.rejected import Rejection, read_rejected, report_rejected
from mtla_espnet.files import UserError

BAD = Rejection("anna-2", "data/train/wav.scp", 7, "a.wav: truncated")


def test_rejections_are_listed_and_counted(tmp_path, caplog):
    other = Rejection("anna-1", "raw.json", None, "two\nlines\tand a tab")
    with caplog.at_level(logging.WARNING):
        assert report_rejected(tmp_path, [BAD, other], 200) == {"anna-1", "anna-2"}
    assert (tmp_path / "rejected.tsv").read_text() == (
        "id\tfile\tline\treason\n"
        "anna-1\traw.json\t\ttwo lines and a tab\n"
        "anna-2\tdata/train/wav.scp\t7\ta.wav: truncated\n"
    )
    assert caplog.messages == [
        f"{tmp_path}/rejected.tsv: 2 of 200 utterances rejected; "
        "the first: raw.json: 'anna-1': two lines and a tab"
    ]
    assert read_rejected(tmp_path / "rejected.tsv")[1] == BAD


def test_a_good_set_has_no_list(tmp_path):
    report_rejected(tmp_path, [BAD], 200)
    assert report_rejected(tmp_path, [], 200) == set()
    assert not list(tmp_path.iterdir())


@given(n_bad=st.integers(1, 30), n_good=st.integers(0, 300), percent=st.floats(0, 100))
def test_it_stops_above_the_limit_and_where_nothing_is_left(
    tmp_path_factory, n_bad, n_good, percent
):
    directory = tmp_path_factory.mktemp("set")
    rejections = [BAD._replace(utterance=f"u{number}") for number in range(n_bad)]
    total = n_bad + n_good
    if 100 * n_bad / total > percent or not n_good:
        with pytest.raises(UserError, match=f": {n_bad} of {total} utterances rejected"):
            report_rejected(directory, rejections, total, percent)
    else:
        assert len(report_rejected(directory, rejections, total, percent)) == n_bad
    assert len(read_rejected(directory / "rejected.tsv")) == n_bad


def test_the_message_names_file_line_id_and_limit(tmp_path):
    with pytest.raises(UserError) as error:
        report_rejected(tmp_path, [BAD], 50)
    assert str(error.value) == (
        f"{tmp_path}/rejected.tsv: 1 of 50 utterances rejected (2 %, more than --max_rejected "
        "1 %); the first: data/train/wav.scp:7: 'anna-2': a.wav: truncated"
    )
    with pytest.raises(UserError, match="2 of 2 utterances rejected .none is left"):
        report_rejected(tmp_path, [BAD, BAD._replace(utterance="b")], 2, 100)


def test_a_list_of_another_form_is_refused(tmp_path):
    (tmp_path / "r.tsv").write_text("id\tfile\tline\treason\na\tb\n")
    with pytest.raises(UserError, match="r.tsv:2: has 2 fields, not 4"):
        read_rejected(tmp_path / "r.tsv")
    with pytest.raises(UserError, match="none.tsv: no such file"):
        read_rejected(tmp_path / "none.tsv")
