"""Secrets and private spans taken out of text: `[redacted:kind]` stays in their place.

The order is from the surest to the most guessed: what people marked as private, PEM keys, known
formats, then values assigned to names such as `password` if they look random. Redacting twice
changes nothing. Linear in the text.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final

from localmem_node.capture.secrets import (
    ASSIGNMENT,
    ASSIGNMENT_HINTS,
    FORMATS,
    PEM_BEGIN,
    PEM_CUT_OFF,
    PEM_DATA,
    PEM_END,
    Format,
    is_placeholder,
    is_secret_assignment,
    looks_random,
)

_PRIVATE_OPEN: Final = re.compile(r"<private>", re.IGNORECASE)
_PRIVATE_TAG: Final = re.compile(r"<(/?)private>", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` without private spans, and with a placeholder for every secret found in it."""
    if _PRIVATE_OPEN.search(text):
        text = _without_private(text) or placeholder("private")
    if "-----BEGIN" in text:
        text = _without_pem(text)
    lowered = text.lower()
    for format_ in FORMATS:
        if any(hint in lowered for hint in format_.hints):
            text = _replace(format_, text)
    if any(hint in lowered for hint in ASSIGNMENT_HINTS):
        text = ASSIGNMENT.sub(_assigned, text)
    return text


def placeholder(kind: str) -> str:
    """What is left where a secret was."""
    return f"[redacted:{kind}]"


def _without_private(text: str) -> str:
    """Spans may nest; one that is never closed goes on to the end."""
    kept: list[str] = []
    depth = at = 0
    for tag in _PRIVATE_TAG.finditer(text):
        if depth == 0:
            # A closing tag without an opening one is text like any other.
            kept.append(text[at : tag.end() if tag[1] else tag.start()])
        depth = max(0, depth - 1) if tag[1] else depth + 1
        at = tag.end()
    if depth == 0:
        kept.append(text[at:])
    result = "".join(kept)
    return result if result.strip() else ""


def _without_pem(text: str) -> str:
    """A key up to its end marker; one that is cut off, as far as its data goes."""
    kept: list[str] = []
    begins = list(PEM_BEGIN.finditer(text))
    ends = PEM_END.finditer(text)
    end = next(ends, None)
    at = 0
    for begin, following in zip_longest(begins, begins[1:]):
        while end is not None and end.start() < begin.end():
            end = next(ends, None)
        limit = following.start() if following else len(text)
        if end is not None and end.end() <= limit:
            stop = end.end()
        else:
            cut_off = PEM_CUT_OFF.match(text, begin.end())
            stop = cut_off.end() if cut_off else begin.end()
        if PEM_DATA.search(text, begin.end(), stop):
            kept += [text[at : begin.start()], placeholder("private-key")]
            at = stop
    return "".join([*kept, text[at:]])


def _replace(format_: Format, text: str) -> str:
    group = 1 if format_.pattern.groups else 0

    def one(match: re.Match[str]) -> str:
        secret = match[group]
        if is_placeholder(secret) or (format_.random and not looks_random(secret)):
            return match[0]
        before = match[0][: match.start(group) - match.start()]
        after = match[0][match.end(group) - match.start() :]
        return f"{before}{placeholder(format_.kind)}{after}"

    return format_.pattern.sub(one, text)


def _assigned(match: re.Match[str]) -> str:
    if not is_secret_assignment(match):
        return match[0]
    group = 3 if match[3] is not None else 4
    start, stop = match.start(group) - match.start(), match.end(group) - match.start()
    kind = "password" if match[1].lower().startswith(("pass", "pwd")) else "secret"
    return f"{match[0][:start]}{placeholder(kind)}{match[0][stop:]}"
