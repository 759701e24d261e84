"""The tokenizer of BERT, uncased, for the model that is shipped.

Wu et al., "Google's Neural Machine Translation System" (2016), section 4.1, with the longest piece first.
`tokenizers` does the same, and is used for models of one's own. It takes longer, and its tables take much
more memory than a dictionary does, in a daemon that is there all the time. The texts that become something
else here have letters, accents or marks that Unicode got after version 9.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

WORD_CHARACTERS_MAX: Final = 100
"""A longer word is unknown."""

CONTINUES: Final = "##"
"""What a piece that does not begin a word begins with."""

UNKNOWN, FIRST, LAST = "[UNK]", "[CLS]", "[SEP]"

_SPECIAL: Final = re.compile(r"\[(?:PAD|UNK|CLS|SEP|MASK)\]")
_PUNCTUATION: Final = r"!-/:-@\[-`{-~"
_WORDS: Final = re.compile(rf"[{_PUNCTUATION}]|[^\s{_PUNCTUATION}]+")
_IGNORED: Final = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
_IDEOGRAPHS: Final = re.compile(
    "([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b81f"
    "\U0002b920-\U0002ceaf\U0002f800-\U0002fa1f])"
)


class _Pieces(msgspec.Struct):
    vocab: dict[str, int]


class _Settings(msgspec.Struct):
    model: _Pieces


class WordPiece:
    """Texts to numbers of pieces, at most `tokens_max` of them with FIRST and LAST. Thread-safe."""

    def __init__(self, numbers: Mapping[str, int], tokens_max: int) -> None:
        """`numbers` are those of all pieces. Raises KeyError if one of the three above is missing."""
        self._numbers = numbers
        self._unknown = (numbers[UNKNOWN],)
        self._first, self._last = numbers[FIRST], numbers[LAST]
        self._most = tokens_max - 2

    @classmethod
    def read(cls, settings: bytes, tokens_max: int) -> WordPiece:
        """That of a tokenizer.json. Raises msgspec.DecodeError and KeyError for another file."""
        return cls(msgspec.json.decode(settings, type=_Settings).model.vocab, tokens_max)

    def encode(self, text: str) -> list[int]:
        """The numbers of the pieces of a text that is well-formed."""
        found = [self._first]
        for word in _words(text):
            found += self._pieces(word)
            if len(found) > self._most:
                break
        return [*found[: self._most + 1], self._last]

    def _pieces(self, word: str) -> tuple[int, ...] | list[int]:
        whole = self._numbers.get(word)
        if whole is not None:
            return (whole,)
        if len(word) > WORD_CHARACTERS_MAX:
            return self._unknown
        found: list[int] = []
        first, end = 0, len(word)
        while first < len(word):
            piece = CONTINUES + word[first:end] if first else word[:end]
            number = self._numbers.get(piece)
            if number is not None:
                found.append(number)
                first, end = end, len(word)
            elif end - first > 1:
                end -= 1
            else:
                return self._unknown
        return found


def _words(text: str) -> Iterator[str]:
    """Words, marks of punctuation, ideographs, and special pieces as they are written."""
    after = 0
    for special in _SPECIAL.finditer(text):
        yield from _WORDS.findall(_folded(text[after : special.start()]))
        yield special.group()
        after = special.end()
    yield from _WORDS.findall(_folded(text[after:]))


def _folded(text: str) -> str:
    """Without accents, case and control characters; apart what is a word of its own."""
    if text.isascii():
        return _IGNORED.sub("", text).lower()
    kept = "".join(character for character in text if not _is_ignored(character))
    plain = unicodedata.normalize("NFD", _IDEOGRAPHS.sub(r" \1 ", kept))
    return "".join(
        f" {lower} " if _is_mark(lower) else lower
        for character in plain
        if unicodedata.category(character) != "Mn"
        for lower in character.lower()  # by character: at a word's end a sigma has another form
    )


def _is_ignored(character: str) -> bool:
    return character == "\ufffd" or (
        unicodedata.category(character) in {"Cc", "Cf", "Co"} and character not in "\t\n\r"
    )


def _is_mark(character: str) -> bool:
    return not character.isascii() and unicodedata.category(character).startswith("P")
