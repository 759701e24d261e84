"""Terms of code and prose, for the lexical index.

An identifier counts whole and by its parts: `loadUserName`, `load_user_name` and `load/user-name`
share the terms load, user and name; the first two also share `loadusernam`. Words are stemmed
(Snowball English), function words dropped; runs of Chinese, Japanese and Korean, which have no
spaces, become character bigrams. Text is folded by NFKC and case.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import lru_cache
from typing import Final

import Stemmer  # type: ignore[import-not-found]

VERSION: Final = 1
"""Changes whenever the same text gives other terms; an index of another version is rebuilt."""

TERM_CHARACTERS_MAX: Final = 64
"""A longer word (base64, a minified line) is no word; it is dropped whole."""

PARTS_MAX: Final = 12
"""An identifier with more parts (a hexadecimal digest) counts whole only."""

CACHED_WORDS: Final = 8192
"""Words whose terms are kept, some 2 MiB: 95 % of those in code; 65,536 save no measurable time."""

_WORDS: Final = re.compile(r"\w+")
_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")  # HTTP, Server, 2
_CJK: Final = (
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_CJK_RUNS: Final = re.compile(f"([{_CJK}]+)")

_CODE: Final = (
    "and as assert async await break case class const continue def default delete do elif else "
    "enum except export extends finally for from func function global if implements import in "
    "interface is lambda let match new nil none not null or pass raise return self static struct "
    "super switch this throw throws trait try type typeof var void while with yield"
)
KEYWORDS: Final = frozenset(_CODE.split())
"""Words of programming languages. Those that are English function words too stay in the index."""

_ENGLISH: Final = (
    "a about above after again all also am an and any are as at be because been before being "
    "below between both but by can cannot could did do does doing done down during each either "
    "ever every few for from further get gets got had has have having he her here hers him his "
    "how i if in into is it its itself just least less let like made make many may me might more "
    "most much must my neither no nor not now of off on once one only or other our ours out over "
    "own per rather s same shall she should since so some still such t than that the their theirs "
    "them themselves then there these they this those though through thus to too under until up "
    "upon us very was we were what when where whether which while who whom whose why will with "
    "within without would yet you your yours ain aren couldn didn doesn don hadn hasn haven isn "
    "shouldn wasn weren won wouldn ll re ve"
)
STOP_WORDS: Final = frozenset(_ENGLISH.split())
"""English words that tell nothing about a subject."""

_stemmer = Stemmer.Stemmer("english", 0)
_stemmer_lock = threading.Lock()


def terms(text: str) -> list[str]:
    """The terms of a text that is indexed, in order, repetitions kept."""
    found: list[str] = []
    for word in _WORDS.findall(_folded(text)):
        found += _terms_of(word)
    return found


def query_terms(text: str) -> list[str]:
    """The terms of a question, each once, in order; function words only if there is nothing else."""
    words = _WORDS.findall(_folded(text))
    telling = [word for word in words if word.lower() not in STOP_WORDS]
    return list(dict.fromkeys(term for word in telling or words for term in _terms_of(word)))


def _folded(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _terms_of(word: str) -> tuple[str, ...]:
    if word.isascii() or not (pieces := _CJK_RUNS.split(word))[1:]:
        return _word_terms(word) if len(word) <= TERM_CHARACTERS_MAX else ()
    return tuple(
        term
        for place, piece in enumerate(pieces)
        if piece
        for term in (_bigrams(piece) if place % 2 else _terms_of(piece))
    )


@lru_cache(maxsize=CACHED_WORDS)
def _word_terms(word: str) -> tuple[str, ...]:
    lower = word.casefold()
    if lower in STOP_WORDS and lower not in KEYWORDS:
        return ()
    shape = word if word.isascii() else "".join(map(_shape, word))
    parts = [word[part.start() : part.end()].casefold() for part in _PARTS.finditer(shape)]
    if not parts:
        return ()
    whole = stemmed(lower.replace("_", ""))
    if len(parts) == 1 or len(parts) > PARTS_MAX:
        return (whole,)
    telling = (part for part in parts if len(part) > 1 and part not in STOP_WORDS)
    return (whole, *map(stemmed, telling))


def _shape(character: str) -> str:
    """The ASCII character that stands for this one where a word is cut into parts."""
    if character.isupper():
        return "A"
    if character.isdecimal():
        return "0"
    return "_" if character == "_" else "a"


def _bigrams(run: str) -> tuple[str, ...]:
    return tuple(run[at : at + 2] for at in range(len(run) - 1)) or (run,)


def stemmed(word: str) -> str:
    """The stem of a lower-case word."""
    with _stemmer_lock:  # one stemmer holds one working buffer
        stem: str = _stemmer.stemWord(word)
    return stem
