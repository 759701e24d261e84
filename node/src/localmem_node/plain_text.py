"""Recorded text as it may be shown: nothing in it moves a cursor, hides, or ends a quotation.

Also how large a text is for a model. Its tokenizer is not here, and every model has another, so the
number is an estimate on the high side; `python -m bench context` prints how far it is from a real
count, and where from.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final, NamedTuple

TOKEN: Final = 18
"""Units of a token; what a text costs is counted in whole units, so that sums are exact."""

BACKTICKS_MAX: Final = 8
"""Longest run of backticks that is shown; a fence is longer, and costs its length twice."""

FENCE_MIN: Final = 3

_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS: Final = frozenset("\u200c\u200d")
"""Persian, Indic scripts and emoji are not written without them."""

_TICKS: Final = re.compile("`+")
_WORDS: Final = re.compile("[A-Za-z]+")
_LONG_ENDS: Final = re.compile("[A-Za-z]{5}([A-Za-z]+)")
_DIGITS: Final = re.compile("[0-9]+")
_MARKS: Final = re.compile("[!-/:-@\\[-`{-~]")
_SPACES: Final = re.compile("  +")
_TWO_BYTES: Final = re.compile("[\x80-\u07ff]")
_FOUR_BYTES: Final = re.compile("[\U00010000-\U0010ffff]")


class Size(NamedTuple):
    """How much a text takes: `units` by the estimate, and UTF-16 `characters`, as JavaScript counts."""

    units: int
    characters: int

    def plus(self, other: Size) -> Size:
        """Both together."""
        return Size(self.units + other.units, self.characters + other.characters)

    def minus(self, other: Size) -> Size:
        """What is left."""
        return Size(self.units - other.units, self.characters - other.characters)

    def fits(self, room: Size) -> bool:
        """Whether it is no larger in either way."""
        return self.units <= room.units and self.characters <= room.characters

    @property
    def tokens(self) -> int:
        """The estimate in tokens, rounded up."""
        return -(-self.units // TOKEN)


def size_of(text: str) -> Size:
    """The size of a text. That of lines is the sum of theirs, and of the breaks between them.

    A word of up to five letters is a token and a bit, a longer one more; two digits or one other
    mark are about one; so is a line break; of other scripts, a character is one to three.
    """
    words = 20 * len(_WORDS.findall(text)) + 4 * sum(map(len, _LONG_ENDS.findall(text)))
    digits = sum(4 + 10 * len(run) for run in _DIGITS.findall(text))
    spaces = sum(16 + len(run) // 2 for run in _SPACES.findall(text))
    units = words + digits + spaces + 16 * len(_MARKS.findall(text)) + 20 * text.count("\n")
    if text.isascii():
        return Size(units, len(text))
    two, four = len(_TWO_BYTES.findall(text)), len(_FOUR_BYTES.findall(text))
    three = sum(map(len, re.findall("[\u0800-\uffff]+", text)))
    return Size(units + 18 * two + 30 * three + 60 * four, len(text) + four)


def escape(text: str, keep: frozenset[str] = frozenset()) -> str:
    """Text that cannot move the cursor, colour the terminal or reverse its direction.

    Tabs become spaces; other control and format characters their Python escapes, but for `keep`.
    """
    if text.isprintable():
        return text
    return "".join(
        "    "
        if character == "\t"
        else character.encode("unicode_escape").decode()
        if character not in keep and unicodedata.category(character) in _UNSAFE
        else character
        for character in text
    )


def clean_lines(text: str) -> list[str]:
    """The lines of a text without control characters, long runs of backticks, and blank ends."""
    text = _TICKS.sub(lambda run: run[0][:BACKTICKS_MAX], text)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = [escape(line, _JOINERS).rstrip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    first = next((at for at, line in enumerate(lines) if line), 0)
    return lines[first:]


def clean_label(text: str, most: int) -> str:
    """A name on one line, without backticks; of a long one the end."""
    label = " ".join(escape(text.replace("`", "'"), _JOINERS).split())
    return label if len(label) <= most else "…" + label[1 - most :]


def clean_start(text: str, most: int) -> str:
    """The beginning of a text on one line, without backticks, and cut where it is long."""
    label = clean_label(" ".join(text.lstrip()[: 2 * most].split()), 8 * most)
    return label if len(label) <= most else f"{label[: most - 1].rstrip()}…"


def fence_for(texts: Iterable[str]) -> str:
    """Backticks that none of these texts can end."""
    longest = max((len(run) for text in texts for run in _TICKS.findall(text)), default=0)
    return "`" * max(FENCE_MIN, longest + 1)
