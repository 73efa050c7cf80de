"""The image: its stages, and that its commands are those of the README."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def instructions():
    """Return the instructions of the Dockerfile: (word, arguments)."""
    text = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_every_line_is_an_instruction():
    known = {"FROM", "RUN", "WORKDIR", "COPY", "CMD", "ENV"}
    assert {word for word, _ in instructions()} <= known
    stages = [
        re.fullmatch(r"(\S+) AS (\w+)", rest) for word, rest in instructions() if word == "FROM"
    ]
    assert [stage[2] for stage in stages] == ["base", "cpu", "cuda"]
    assert all(stage[1] == "base" for stage in stages[1:])


def test_its_commands_are_those_of_the_readme():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^(make \w+) ", readme, re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]
    assert ("CMD", '["make", "demo"]') in instructions()
    head = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8").partition("FROM")[0]
    assert "mtla_espnet make test" in head
    python = next(rest for word, rest in instructions() if word == "FROM")
    assert python.startswith("python:3.12-")


def test_what_a_run_makes_does_not_enter_the_image():
    ignored = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    made = (CHECKOUT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {line.strip("/") for line in made if line.startswith("egs")} <= set(ignored)
    assert ".venv" in ignored
