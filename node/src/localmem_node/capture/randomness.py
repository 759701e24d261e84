"""Judging a value: was it drawn by a generator, chosen as a password, or written as a word?

Every function is linear in the value, and looks at no more than its first `JUDGED_MAX` characters.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from itertools import pairwise
from typing import Final

JUDGED_MAX: Final = 128
"""Characters of a value that are looked at; a longer one is no less random for its rest."""

RANDOM_CHARACTERS_MIN: Final = 12
"""Letters and digits below which chance makes words look drawn, and the drawn look like words."""

LETTERS_ALONE_MIN: Final = 16
"""The same for letters without any digit, whose pairs are then all there is to judge by."""

LETTERS_JUDGED_MIN: Final = 10
"""Letters whose pairs say anything at all."""

HEX_MIN: Final = 24
"""Hex digits that are no number, no date and no colour: 96 bits."""

_PLACEHOLDER: Final = re.compile(
    r"^(?:\$\w{1,64}(?:$|[-/:.\[])|%\w{1,64}%$|[&*][A-Za-z_]\w*+$|<[^>]{0,64}>?$"
    r"|@?(?:\.{1,2}/|~/|/(?:etc|run|var|usr|home|opt|tmp|mnt|srv|root|users|dev|proc|app|secrets?|keys?|path)\b))|\$[{(]|#\{|\{\{"
    r"|^f?\{|\{[A-Za-z_][\w.()\[\]'\"!:]{0,64}\}|%\(|%[sdr](?!\w)|\*{3}|\.{3}|x{4}|redacted|example|placeholder"
    r"|changeme|change[_-]?(?:me|this|it)|\bdummy|\btodo\b|(?<![A-Za-z0-9])(?:your|my|replace|insert)[_-]|process\.env"
    r"|os\.environ|getenv|env\.|secrets\.|vault:|op://|\bnone\b|\bnull\b|\btrue\b|\bfalse\b|undefined",
    re.IGNORECASE,
)
_HEX: Final = re.compile(r"[0-9a-f]++|[0-9A-F]++")
_CHANGE: Final = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[0-9]|(?<=[0-9])[A-Za-z]")
_SYMBOLS: Final = frozenset("!@#$%^&*?~+|")
_COMMON_PAIRS: Final = (
    "abacadaialamanaparasatblcacechckclcoctdadedieaecedeeefelemeneperesetexfffifogehahehoiaicidieigil"
    "iminioirisitkelalelilllolymamemimompnancndnengninonsntocodolomonoporosotoupapeplpoprptrarerirmro"
    "rsrtscseshsispssstsutatethtitotrtsulunurusutvave"
)
_PAIRS: Final = frozenset(
    _COMMON_PAIRS[at : at + 2].encode() for at in range(0, len(_COMMON_PAIRS), 2)
)
"""The 120 commonest pairs of letters in the words of the standard library's sources: 73 % of the
pairs of a word are among them, and 18 % of the pairs of drawn letters."""


def is_placeholder(value: str) -> bool:
    """Whether a value stands for one that is filled in later."""
    return _PLACEHOLDER.search(value) is not None or len(set(value)) <= 2


def looks_random(value: str) -> bool:
    """Whether text is likelier drawn than written: digits among letters and few words, or letters
    alone that form none.
    """
    value = value[:JUDGED_MAX]
    body = re.sub(r"[^A-Za-z0-9]", "", value)
    if len(body) < RANDOM_CHARACTERS_MIN or not has_letter(body):
        return False
    if not has_digit(body):
        return is_gibberish(body)
    if entropy(body) < 2.8 or _is_sequence(body):
        return False
    if _is_long_hex(body):
        return True
    if is_wordy(value):
        letters = sum(character.isalpha() for character in body)
        return letters >= LETTERS_ALONE_MIN and common_pairs(body) < 0.35
    return not has_words(body, share=0.6)


def looks_chosen(value: str) -> bool:
    """Whether it could be a password: more than letters, or letters that form no words."""
    if not has_letter(value):
        return False
    return has_digit(value) or has_symbol(value) or is_gibberish(value)


def is_wordy(value: str) -> bool:
    """Whether it is words and numbers strung together, as identifiers and file names are.

    Drawn text changes between capitals, small letters and digits at every second or third
    character (hex 0.47, base36 0.40, base62 0.45 per character); written text at every sixth.
    """
    return len(_CHANGE.findall(value)) < 0.2 * len(value)


def is_gibberish(value: str) -> bool:
    """Whether letters, and nothing else, form no words."""
    if len(value) < LETTERS_ALONE_MIN or not (value.isascii() and value.isalpha()):
        return False
    return common_pairs(value) < 0.4


def has_words(value: str, *, share: float = 0.45) -> bool:
    """Whether so large a share of its letters, digits left out, stand together as in words."""
    if sum(map(str.isalpha, value)) < LETTERS_JUDGED_MIN or _HEX.fullmatch(value):
        return False
    return common_pairs(value) > share


def common_pairs(value: str) -> float:
    """The share of neighbouring letters that words have; what is no letter is left out."""
    lowered = re.sub(r"[^a-z]", "", value[:JUDGED_MAX].lower()).encode()
    pairs = [lowered[at : at + 2] for at in range(len(lowered) - 1)]
    return sum(pair in _PAIRS for pair in pairs) / max(len(pairs), 1)


def is_text_in_base64(value: str) -> bool:
    """Whether base64 says something readable, and so was not drawn."""
    padded = value[:JUDGED_MAX].rstrip("=").translate(str.maketrans("-_", "+/"))
    if len(padded) % 4 == 1:  # no length of base64
        padded = padded[:-1]
    try:
        data = base64.b64decode(padded + "=" * (-len(padded) % 4))
    except (binascii.Error, ValueError):
        return False
    readable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in data)
    return readable >= 0.9 * len(data)


def has_digit(value: str) -> bool:
    """Whether there is a digit in it."""
    return any(character.isdigit() for character in value)


def has_letter(value: str) -> bool:
    """Whether there is a letter in it."""
    return any(character.isalpha() for character in value)


def has_symbol(value: str) -> bool:
    """Whether there is a character in it that passwords have and names do not."""
    return not _SYMBOLS.isdisjoint(value)


def entropy(value: str) -> float:
    """Shannon entropy in bits per character."""
    counts = Counter(value[:JUDGED_MAX]).values()
    total = sum(counts)
    return -sum(count / total * math.log2(count / total) for count in counts)


def _is_sequence(value: str) -> bool:
    """Whether characters follow one another as in the alphabet, like 0123456789abcdef."""
    steps = sum(ord(after) - ord(one) == 1 for one, after in pairwise(value))
    return steps > 0.5 * len(value)


def _is_long_hex(value: str) -> bool:
    return len(value) >= HEX_MIN and _HEX.fullmatch(value) is not None and entropy(value) >= 3.0
