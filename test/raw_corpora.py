"""What the corpora's tests share: fixtures in the raw layouts, and expected data directories."""

import argparse
import hashlib
import importlib
import json
import shutil
from pathlib import Path

from mtla_espnet.corpora import CORPORA

FIXTURES = Path(__file__).resolve().parent / "fixtures"


def run_prepare(corpus, *argv):
    """Call `prepare` of a corpus with a command line."""
    module = importlib.import_module(CORPORA[corpus][0])
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    module.prepare(parser.parse_args([str(word) for word in argv]))


def tables(directory):
    """Path below `directory` -> bytes of every file in it."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def raw_copy(corpus, directory):
    """Copy the fixture of a corpus to `directory`/raw, for a test to damage."""
    return Path(shutil.copytree(FIXTURES / corpus, directory / "raw"))


def check_expected(output, name, root, sets=None, unchecked=()):
    """Compare made data directories with those written by hand for the fixture at `root`.

    `unchecked` names tables that a hand cannot write.
    """
    expected = {
        path: data.replace(b"@ROOT@", str(root).encode())
        for path, data in tables(FIXTURES / "expected" / name).items()
    }
    made = {
        path: data
        for path, data in tables(output).items()
        if Path(path).name not in unchecked and (sets is None or Path(path).parts[0] in sets)
    }
    assert made.keys() == expected.keys()
    for path, data in expected.items():
        assert made[path].decode() == data.decode(), path


def write_debian_indices(directory, packages):
    """Write indices of Debian: of each package its name, source, short and long description."""
    directory.mkdir(parents=True, exist_ok=True)
    entries, descriptions = [], []
    for name, source, short, long in packages:
        md5 = hashlib.md5(f"{name} {long}".encode()).hexdigest()
        origin = f"Source: {source}\n" if source != name else ""
        entries.append(
            f"Package: {name}\n{origin}Section: libs\nDepends: a,\n b\nDescription-md5: {md5}\n"
        )
        words = long.split()
        lines = [" ".join(words[: len(words) // 2]), ".", " ".join(words[len(words) // 2 :])]
        body = "".join(f" {line}\n" for line in lines)
        descriptions.append(
            f"Package: {name}\nDescription-md5: {md5}\nDescription-en: {short}\n{body}"
        )
    (directory / "Packages").write_text("\n".join(entries), encoding="utf-8")
    (directory / "Translation-en").write_text("\n".join(descriptions), encoding="utf-8")


def write_templates(directory):
    """Write templates as Home Assistant's, in English and German."""
    directory.mkdir(parents=True, exist_ok=True)
    verbs = {"en": ("turn on", "turn off", "the"), "de": ("schalte ein", "schalte aus", "das")}
    for language, (on, off, the) in verbs.items():
        intents = {
            "HassTurnOn": {
                "data": [
                    {
                        "sentences": [f"<on> [{the}] {{name}}"],
                        "requires_context": {"domain": "light"},
                    },
                    {"sentences": ["<on> [<all> ]({name};{area})"]},
                ]
            },
            "HassTurnOff": {"data": [{"sentences": [f"{off} {{name}}[ {{area}}]"]}]},
            "HassSet": {
                "data": [
                    {
                        "sentences": ["{area} <local> {level:brightness}[([ ]%)]"],
                        "expansion_rules": {"local": "to"},
                    }
                ]
            },
            "HassColor": {"data": [{"sentences": ["{area}[s] {color}"]}]},
        }
        content = {
            "language": language,
            "intents": intents,
            "lists": {
                "level": {"range": {"from": 0, "to": 100}},
                "color": {"values": ["red", {"in": "(dark|light) blue", "out": "blue"}]},
            },
            "expansion_rules": {"on": f"({on}|start)", "all": "all [my]"},
        }
        path = directory / f"{language}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
