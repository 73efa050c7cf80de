"""YAML files: what is read, and what is refused before it costs more than it is."""

import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet import yaml_files
from mtla_espnet.files import UserError
from mtla_espnet.yaml_files import dump_yaml, load_yaml, parse_yaml
from strategies import YAML_VALUES


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "train.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_load_reads_a_mapping_and_nothing_as_empty(written):
    assert load_yaml(written("a: {b: [1, 2.5]}\n")) == {"a": {"b": [1, 2.5]}}
    assert load_yaml(written("# nothing\n")) == {}


@given(st.dictionaries(st.sampled_from("abcde"), YAML_VALUES))
def test_what_is_dumped_loads_as_it_was(config):
    assert yaml.safe_load(dump_yaml(config)) == config
    assert parse_yaml(dump_yaml(config), "dumped") == config


LEVELS = yaml_files.MOST_LEVELS
BOMB = "\n".join(
    ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    + [f"a{n}: &a{n} [{','.join(9 * [f'*a{n - 1}'])}]" for n in range(1, 12)]
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [\n", r"train.yaml:3: not valid YAML"),
        ("- a\n", r"train.yaml: must hold `key: value` lines, not list"),
        ("a: 1\nb: {c: 1, c: 2}\n", r"train.yaml:2: .*key 'c' is given twice"),
        ("a: !!python/object:os.system x\n", r"train.yaml:1: not valid YAML"),
        ("optim_conf:\n  lr: 1e-3\n", r"optim_conf.lr: YAML reads 1e-3 as text; write 1.0e-3"),
        ("a: [0, 2.E5]\n", r"a: YAML reads 2.E5 as text; write 2.0e\+5"),
        ("{[1]: 2}\n", r"train.yaml:1: not valid YAML"),
        ("a: 1\nb: 2020-13-45\n", r"train.yaml:2: not valid YAML: month must be in 1..12"),
        ("a: 1\nb: !!int ''\n", r"train.yaml:2: not valid YAML"),
        ("a: 1\nb: !!bool maybe\n", r"train.yaml:2: not valid YAML"),
        ("a: !!map 1\n", r"train.yaml:1: not valid YAML"),
        (f"a: {'7' * 5000}\n", r"train.yaml:1: not valid YAML"),
        ("a: 1\nb: *none\n", r"train.yaml:2: not valid YAML: found undefined alias"),
        ("a: 1\n--- \nb: 1\n", r"train.yaml:2: not valid YAML: .*another document"),
        ("a: 1\nb: &b {c: *b}\n", r"train.yaml:2: .*the value of &b holds itself"),
        (BOMB, r"train.yaml:7: .*it stands for more than 1000000 values"),
        (f"a: {'[' * 200}", r"train.yaml:1: .*nested more than 64 levels deep"),
        (f"a: {'[' * 20000}", r"train.yaml:1: .*nest"),
        (
            f"a: &a {'[' * LEVELS}{']' * LEVELS}\nb: [*a]",
            r"train.yaml:1: .*nested more than 64 levels deep",
        ),
        (
            f"a: &a {'[' * (LEVELS - 1)}{']' * (LEVELS - 1)}\nb: [*a]",
            r"train.yaml:2: .*nested more than 64 levels deep",
        ),
        ("a: \x01\n", r"train.yaml: not valid YAML"),
    ],
)
def test_load_names_file_and_fault(written, text, message):
    with pytest.raises(UserError, match=message) as caught:
        load_yaml(written(text))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@given(YAML_VALUES, st.integers(0, 60), st.integers(1, 3))
def test_what_aliases_stand_for_counts_as_written_out(value, depth, copies):
    flow = yaml.safe_dump(value, default_flow_style=True, width=10**6).replace("\n...", "").strip()
    nested = f"{'[' * depth}{flow}{']' * depth}"
    aliased = f"[&a {nested}{', *a' * copies}]"
    written = f"[{nested}{f', {nested}' * copies}]"

    def read(text):
        try:
            return parse_yaml(text, "s")
        except UserError as error:
            return str(error).rpartition(": ")[2]

    assert read(aliased) == read(written)


@pytest.mark.parametrize("allowed", [3, 4])
def test_values_are_counted(monkeypatch, allowed):
    monkeypatch.setattr(yaml_files, "MOST_VALUES", allowed)
    if allowed == 4:
        assert parse_yaml("[&a x, *a, b]", "s") == ["x", "x", "b"]
    else:
        with pytest.raises(UserError, match="s:1: .*more than 3 values"):
            parse_yaml("[&a x, *a, b]", "s")


def test_merged_keys_may_be_given_again():
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}", "s")["b"] == {"x": 3, "y": 2}


def test_the_line_of_a_part_is_that_of_its_file():
    with pytest.raises(UserError, match="talks.yaml:12: not valid YAML: key 'a' is given twice"):
        parse_yaml("- {a: 1}\n- {b: 1}\n- {a: 1, a: 2}\n", "talks.yaml", line=10)


def test_a_file_is_there_regular_readable_and_of_a_bounded_size(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no.yaml: no such file"):
        load_yaml(tmp_path / "no.yaml")
    with pytest.raises(UserError, match=f"{tmp_path.name}: is a directory"):
        load_yaml(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="pipe.yaml: is a pipe"):
        load_yaml(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="/dev/zero: is a device"):
        load_yaml("/dev/zero")
    with pytest.raises(UserError, match="cannot be read: File name too long") as caught:
        load_yaml("x" * 5000)
    assert len(str(caught.value)) <= 1000
    with pytest.raises(UserError, match=r"a\\x00b: cannot be read: .*null byte"):
        load_yaml("a\0b")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4\n")
    with pytest.raises(UserError, match="latin.yaml: not UTF-8 text"):
        load_yaml(tmp_path / "latin.yaml")
    monkeypatch.setattr(yaml_files, "MOST_BYTES", 1 << 20)
    (tmp_path / "large.yaml").write_text("#" * ((1 << 20) + 1))
    with pytest.raises(UserError, match="large.yaml: is larger than 1 MiB"):
        load_yaml(tmp_path / "large.yaml")
