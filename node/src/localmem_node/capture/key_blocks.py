"""Private keys in text armour: PEM (PKCS #1, PKCS #8, encrypted, SEC 1), OpenSSH, SSH2, PGP, PuTTY.

A key goes from its first line to its last. Of one that is cut off at either end, as snippets cut
it, what is there of its data goes. Linear: between two markers the text is read once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_MARKER: Final = re.compile(
    r"-{4,5} ?(BEGIN|END) (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
)
_DATA: Final = re.compile(r"[A-Za-z0-9+/]{32}")
_BELOW: Final = re.compile(
    r"(?:[\s\"'`,]|\\[rn])*+"
    r"(?:[A-Za-z][A-Za-z0-9-]{1,32}: [^\r\n\\]{0,256}+(?:\\[rn]|[\r\n])++)*+"
    r"(?:[A-Za-z0-9+/=]{16,}+"
    r"(?:[ \t\"'`,+]|\\[rn]|\r?\n(?=[ \t\"'`+]{0,64}[A-Za-z0-9+/=]{16}))*+)*+"
)
"""What may follow the first line: headers, then lines of data, with the quotes of source code."""

_ABOVE: Final = re.compile(
    r"(?:[\s\"'`,+\\]{0,64}+[A-Za-z0-9+/=]{4,31}+)?+(?:[\s\"'`,+\\]{0,64}+[A-Za-z0-9+/=]{32,}+)++"
)
"""What may come before the last line, read backwards: a short line, then whole ones."""

_PUTTY: Final = re.compile(
    r"Private-Lines: ([0-9]{1,4}[\r\n]{1,2}(?:[A-Za-z0-9+/=]{1,80}[\r\n]{1,2}+)++"
    r"(?:Private-(?:MAC|Hash): [0-9a-f]{0,64})?)"
)


def private_keys(text: str) -> Iterator[tuple[int, int]]:
    """Where keys are: (start, stop), in order, none overlapping another."""
    opened: re.Match[str] | None = None
    done = 0
    for marker in _MARKER.finditer(text):
        if marker[1] == "BEGIN":
            if opened:
                yield from _cut_off_below(text, opened, marker.start())
            opened, done = marker, marker.start()
            continue
        if opened is None:
            yield from _cut_off_above(text, done, marker)
        elif _DATA.search(text, opened.end(), marker.start()):
            yield opened.start(), marker.end()
        opened, done = None, marker.end()
    if opened:
        yield from _cut_off_below(text, opened, len(text))


def putty_keys(text: str) -> Iterator[tuple[int, int]]:
    """Where the private halves of PuTTY keys are: (start, stop), in order."""
    return (match.span(1) for match in _PUTTY.finditer(text))


def _cut_off_below(text: str, begin: re.Match[str], limit: int) -> Iterator[tuple[int, int]]:
    """A key whose last line is missing."""
    data = _BELOW.match(text, begin.end(), limit)
    if data and _DATA.search(data[0]):
        yield begin.start(), data.end()


def _cut_off_above(text: str, floor: int, end: re.Match[str]) -> Iterator[tuple[int, int]]:
    """A key whose first line is missing, down to `floor`."""
    data = _ABOVE.match(text[floor : end.start()][::-1])
    if data:
        yield end.start() - data.end(), end.end()
