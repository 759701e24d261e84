"""The searchable fields of an event: where it happened, in which symbol, and what it says."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from localmem_protocol.events import LOCATED, Event

PATH_TAIL_PARTS: Final = 3
"""Trailing path components that tell files apart; what is above them is the same everywhere."""

ENCODED_CHARACTERS_MAX: Final = 320
"""Characters of an event that are embedded. 800 find no more, and a long hunk then takes 2.6 times as long."""

SYMBOLS_MAX: Final = 8
"""Definitions taken from one snippet; more of them name a file, not a place in it."""

HUNK_MARK: Final = "@@ "
"""A first line that starts so is the header of a hunk (as in a unified diff): the enclosing symbol."""

SPEAKER: Final = re.compile(r"([A-Z][\w.'-]{0,30}(?: [A-Z][\w.'-]{0,30})?): ")
"""How a line of a conversation begins: with the name of who says it."""

_HUNK_RANGES: Final = re.compile(r"^@@ (?:-\d+(?:,\d+)? \+\d+(?:,\d+)? @@ ?)?")
_DEFINITION: Final = re.compile(
    r"^[ \t]*(?:(?:export|default|async|public|private|protected|internal|static|final|abstract"
    r"|sealed|override|open|unsafe|pub(?:\([a-z]{1,20}\))?)[ \t]+){0,5}"
    r"(?:(?:def|class|func|function|fn|interface|struct|enum|trait|type|impl|module|namespace)"
    r"[ \t]+(?:\([^)\n]{0,80}\)[ \t]*)?(\w+)"
    r"|(?:const|let|var)[ \t]+(\w+)[ \t]*=[ \t]*(?:async[ \t]*)?(?:\(|function\b))",
    re.MULTILINE,
)


class Fields(NamedTuple):
    """Text per field; empty where the event has none."""

    path: str
    header: str
    snippet: str


def fields(event: Event) -> Fields:
    """The fields of an event. Prompts, commands and notes have a snippet, and a path if given.

    The header of a line of conversation is who says it.
    """
    header, snippet = "", event.snippet
    if event.kind in LOCATED:
        if snippet.startswith(HUNK_MARK):
            first, _, rest = snippet.partition("\n")
            header, snippet = _HUNK_RANGES.sub("", first), rest
        header = " ".join([header, *symbols(snippet)]).strip()
    elif speaker := SPEAKER.match(snippet):
        header, snippet = speaker[1], snippet[speaker.end() :]
    return Fields(event.file_path or "", header, snippet)


def symbols(code: str) -> list[str]:
    """Names of the functions, classes and types that a piece of code defines, each once."""
    names = dict.fromkeys(found[1] or found[2] for found in _DEFINITION.finditer(code))
    return list(names)[:SYMBOLS_MAX]


def text_for_encoding(event: Event) -> str:
    """What is embedded of an event: the end of its path, its symbols, its snippet; capped."""
    path, header, snippet = fields(event)
    if event.kind not in LOCATED:
        header, snippet = "", event.snippet
    tail = "/".join(path.replace("\\", "/").split("/")[-PATH_TAIL_PARTS:])
    pieces = [piece for piece in (tail, header, snippet) if piece]
    return "\n".join(pieces)[:ENCODED_CHARACTERS_MAX]
