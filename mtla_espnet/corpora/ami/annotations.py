"""AMI's annotations (NXT XML, ISO-8859-1), read without Java.

    corpusResources/meetings.xml
        <meeting observation="ES2099a">
            <speaker nxt_agent="A" channel="0" global_name="FEE099"/>
    words/ES2099a.A.words.xml
        <w nite:id="ES2099a.A.words3" starttime="1.30" endtime="1.62">Okay</w>
        <w nite:id="ES2099a.A.words4" starttime="1.62" endtime="1.62" punc="true">,</w>
        <vocalsound nite:id="ES2099a.A.words5" starttime="1.7" endtime="1.9" type="laugh"/>
    segments/ES2099a.A.segments.xml
        <segment nite:id="ES2099a.sync.4" transcriber_start="1.2" transcriber_end="4.0">
            <nite:child href="ES2099a.A.words.xml#id(ES2099a.A.words3)..id(ES2099a.A.words9)"/>

A range of ids is inclusive, in the order of the file, over every kind of element.
"""

import re
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from mtla_espnet.corpora.shared.raw_files import parse_seconds, require
from mtla_espnet.data.kaldi.tables import problem_of_id
from mtla_espnet.data.text.spaces import plain_spaces
from mtla_espnet.files import UserError, open_file

_HREF = re.compile(r"(?P<file>[^#]+)#id\((?P<first>[^()]+)\)(?:\.\.id\((?P<last>[^()]+)\))?")


class Speaker(NamedTuple):
    """A person in a meeting: letter of the annotations, headset, and name in the corpus."""

    letter: str
    channel: str
    name: str


class Token(NamedTuple):
    """A word or a punctuation mark; a time that is not annotated is None."""

    text: str
    is_mark: bool
    start_s: float | None
    end_s: float | None


class AnnotatedSegment(NamedTuple):
    """What one person says in one go, as the transcriber saw it."""

    id: str
    line: int
    tokens: list[Token]


def read_meetings(annotations: Path) -> dict[str, list[Speaker]]:
    """Read who takes part in which meeting.

    Args:
        annotations: directory of the annotations.

    Returns:
        Meeting -> its speakers.

    Raises:
        UserError: the file is missing, does not parse, or a speaker lacks an attribute.
    """
    path = annotations / "corpusResources" / "meetings.xml"
    meetings: dict[str, list[Speaker]] = {}
    for element in _read_elements(path):
        if element.tag == "meeting":
            meetings[element.get(path, "observation")] = []
        elif element.tag == "speaker" and meetings:
            names = ("nxt_agent", "channel", "global_name")
            speaker = Speaker(*(element.get(path, name) for name in names))
            for name, value in zip(names, speaker, strict=True):
                if problem_of_id(value) or "/" in value:
                    raise UserError(f"{path}:{element.line}: {name} is no name: {value!r}")
            next(reversed(meetings.values())).append(speaker)
    return meetings


def read_segments_of(annotations: Path, meeting: str, letter: str) -> list[AnnotatedSegment]:
    """Read what one person says in one meeting.

    Args:
        annotations: directory of the annotations.
        meeting: such as `ES2002a`.
        letter: such as `A`.

    Returns:
        The segments in the order of their file, those without any word too.

    Raises:
        UserError: a file is missing, does not parse or has a time that is no number, or a
            segment names words that are not there; the message starts with `path:line`.
    """
    words_path = annotations / "words" / f"{meeting}.{letter}.words.xml"
    tokens: list[Token | None] = []
    places: dict[str, int] = {}
    for element in _read_elements(words_path):
        if element.depth != 1:
            continue
        places[element.get(words_path, "nite:id")] = len(tokens)
        tokens.append(_token(words_path, element))

    path = annotations / "segments" / f"{meeting}.{letter}.segments.xml"
    segments: list[AnnotatedSegment] = []
    for element in _read_elements(path):
        if element.tag == "segment":
            segments.append(AnnotatedSegment(element.get(path, "nite:id"), element.line, []))
        elif element.tag == "nite:child" and segments:
            first, last = _range(path, element, words_path.name, places)
            chosen = tokens[first : last + 1]
            segments[-1].tokens.extend(token for token in chosen if token is not None)
    return segments


class _Element:
    """An XML element: tag, attributes, text, line of its start, depth below the root."""

    def __init__(self, tag: str, attributes: dict[str, str], line: int, depth: int):
        self.tag, self.attributes, self.line, self.depth = tag, attributes, line, depth
        self.texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def get(self, path: Path, name: str) -> str:
        try:
            return self.attributes[name]
        except KeyError:
            raise UserError(f"{path}:{self.line}: <{self.tag}> has no {name}") from None


def _read_elements(path: Path) -> list[_Element]:
    """Return the elements of an XML file in the order in which they start.

    Entities that a file declares are refused: they may expand to gigabytes, or name files.
    """
    parser = expat.ParserCreate()
    elements: list[_Element] = []
    open_elements: list[_Element] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = _Element(tag, attributes, parser.CurrentLineNumber, len(open_elements))
        elements.append(element)
        open_elements.append(element)

    def text(data: str) -> None:
        open_elements[-1].texts.append(data)

    def entity(name: str, *_) -> None:
        raise UserError(f"{path}:{parser.CurrentLineNumber}: declares the entity {name!r}")

    parser.EntityDeclHandler = entity
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: open_elements.pop()
    parser.CharacterDataHandler = text
    with open_file(require(path, "AMI")) as stream:
        try:
            parser.ParseFile(stream)
        except expat.ExpatError as error:
            reason = expat.errors.messages[error.code]
            raise UserError(f"{path}:{error.lineno}: not XML ({reason})") from None
    return elements


def _token(path: Path, element: _Element) -> Token | None:
    """Return the word or mark that an element is; None for sounds, gaps and empty words."""
    text = plain_spaces(element.text)
    if element.tag != "w" or not text:
        return None
    times = []
    for name in ("starttime", "endtime"):
        value = element.attributes.get(name, "")
        times.append(parse_seconds(value, f"{path}:{element.line}", name) if value else None)
    return Token(text, element.attributes.get("punc") == "true", *times)


def _range(
    path: Path, element: _Element, words_name: str, places: dict[str, int]
) -> tuple[int, int]:
    href = element.get(path, "href")
    match = _HREF.fullmatch(href)
    if match is None or match["file"] != words_name:
        raise UserError(f"{path}:{element.line}: not `{words_name}#id(...)..id(...)`: {href!r}")
    ids = (match["first"], match["last"] or match["first"])
    for each in ids:
        if each not in places:
            raise UserError(f"{path}:{element.line}: {words_name} has no element {each!r}")
    first, last = (places[each] for each in ids)
    if last < first:
        raise UserError(f"{path}:{element.line}: {ids[1]!r} comes before {ids[0]!r}")
    return first, last
