import pytest

from mtla_espnet.data.kaldi.pipes import programs_of, run_command
from mtla_espnet.files import UserError


def output_of(entry, tmp_path):
    with open(tmp_path / "out", "wb") as stream:
        run_command(entry, stream)
    return (tmp_path / "out").read_text()


def test_programs_are_joined(tmp_path):
    (tmp_path / "a b").write_text("b\na\nc\n")
    assert output_of(f"cat '{tmp_path}/a b' | sort | head -n 2 |", tmp_path) == "a\nb\n"


def test_a_program_whose_reader_has_enough_is_no_failure(tmp_path):
    assert output_of("yes | head -n 1 |", tmp_path) == "y\n"


@pytest.mark.parametrize(
    "entry",
    ["cat $HOME |", "cat `ls` |", "cat a > b |", "cat a; rm b |", "cat a && b |", "(cat a) |"],
)
def test_what_needs_a_shell_is_refused(entry):
    with pytest.raises(UserError, match="needs a shell: only programs joined by | are run"):
        programs_of(entry)


@pytest.mark.parametrize("entry", ["|", "cat a", "cat a | | sort |", "cat 'a |"])
def test_what_is_no_command_is_refused(entry):
    with pytest.raises(UserError, match=r"`: (is not of the form|No closing quotation)"):
        programs_of(entry)


def test_a_failure_is_told(tmp_path):
    with pytest.raises(UserError, match="`no-such-program x |`: no-such-program: No such file"):
        output_of("no-such-program x |", tmp_path)
    with pytest.raises(
        UserError, match=r"`cat .* \| wc |`: cat failed with exit code 1: cat: .*No"
    ):
        output_of(f"cat {tmp_path}/none | wc |", tmp_path)
    with pytest.raises(UserError, match="no-such-program"):
        output_of("yes | no-such-program |", tmp_path)
