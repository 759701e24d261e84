"""What is ever said about a function in a coding session: texts made of its source and docstring.

Its edits are pieces of its source, without the docstring. A prompt and an answer name it or say what
it does; an error quotes one of its lines. A question has other words for the same
(`bench.coding_words`), as far as the table has some, and does not have its name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from bench import coding_words as words
from bench.docstrings import first_sentence, is_query
from bench.functions import Function

Form = Literal["act", "name", "error", "file"]

PIECE_CHARACTERS: Final = (200, 400)
PIECES: Final = 2
"""Edited of a function at most; what follows them is as good as its own function."""

REWORDED: Final = 0.8
"""Share of the words with another word for the same that a question says so."""

REMEMBERED: Final = 0.2
"""The same for what was said in the session."""

ABOUT_WORDS: Final = 3

_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_WORD: Final = re.compile(r"[A-Za-z][\w'-]*")
_SHORT: Final = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "to",
        "in",
        "on",
        "for",
        "and",
        "or",
        "is",
        "are",
        "be",
        "with",
        "from",
        "by",
        "as",
        "at",
        "if",
        "it",
        "its",
        "this",
        "that",
        "not",
        "into",
        "than",
        "which",
        "when",
        "where",
        "all",
        "any",
        "each",
        "will",
        "can",
    ]
)
_OTHERS: Final = {group[0]: group[1:] for group in words.SAME}
_NO_VERB: Final = frozenset(
    ["a", "an", "the", "this", "is", "has", "true", "false", "whether", "if"]
)
_PRONOUNS: Final = frozenset(["i", "it", "we", "you", "they", "he", "she", "there"])


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked later about a function."""

    text: str
    form: Form
    function: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines of a function, 1-based, both included."""

    text: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Material:
    """All that is ever said about a function."""

    function: Function
    pieces: tuple[Piece, ...]
    prompt: str
    error: str
    answer: str
    questions: tuple[Question, ...]


def reworded(text: str, share: float, chance: np.random.Generator) -> str:
    """With another word for the same, for this share of the words that have one."""

    def other(match: re.Match[str]) -> str:
        word = match[0].lower()
        stem = word if word in _OTHERS else word.removesuffix("s")
        if stem not in _OTHERS or chance.random() > share:
            return match[0]
        first, *rest = one_of(_OTHERS[stem], chance).split(" ")
        if stem != word:
            first = _plural(first)
        return " ".join([first, *rest])

    return _WORD.sub(other, text)


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def name_words(name: str) -> str:
    """The words of an identifier, abbreviations spelled out: `_parse_hdr` says "parse header"."""
    parts: list[str] = [part.lower() for part in _PARTS.findall(name)]
    return " ".join(words.MEANINGS.get(part, part) for part in parts)


def act_of(function: Function) -> str:
    """What a function does by its docstring, as an infinitive; empty if it does not say.

    "Returns the stack of a frame." is "return the stack of a frame"; what is no command, such as
    "Is it safe?", is something to "handle".
    """
    sentence = first_sentence(function.docstring)
    if not is_query(sentence, function.name):
        return ""
    verb, _, rest = sentence.partition(" ")
    lower = _infinitive(verb.lower())
    if lower in _PRONOUNS:
        return ""
    if lower in _NO_VERB or not verb.isalpha():
        return f"handle {sentence[:1].lower()}{sentence[1:]}"
    return f"{lower} {rest}"


def _infinitive(verb: str) -> str:
    """Of a verb in the third person; other words stay as they are, but for an s at the end."""
    if verb in _NO_VERB or verb.endswith(("ss", "us")):
        return verb
    for ending, stem in (
        ("ies", "y"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("sses", "ss"),
        ("oes", "o"),
    ):
        if verb.endswith(ending):
            return verb.removesuffix(ending) + stem
    return verb.removesuffix("s")


def material(function: Function, number: int, chance: np.random.Generator) -> Material:
    """The material of a function; `number` is what its questions call it. Drawn by `chance`."""
    act = act_of(function)
    pieces = _pieces(function)
    return Material(
        function,
        pieces,
        prompt=_prompt(function, act, chance),
        error=_error(function, chance),
        answer=_answer(function, act, chance),
        questions=_questions(function, act, number, chance) if act else (),
    )


def _pieces(function: Function) -> tuple[Piece, ...]:
    """The beginning of a function in pieces of whole lines."""
    pieces: list[Piece] = []
    lines: list[str] = []
    first = function.first
    source = function.source.split("\n")
    for at, line in enumerate(source, start=1):
        lines.append(line)
        size = len("\n".join(lines))
        following = len(source[at]) if at < len(source) else 0
        if at == len(source) or size + following > PIECE_CHARACTERS[1]:
            text = "\n".join(lines)[: PIECE_CHARACTERS[1]]
            if text.strip() and (not pieces or size >= PIECE_CHARACTERS[0] // 2):
                pieces.append(Piece(text, first, first + len(lines) - 1))
            first += len(lines)
            lines = []
    return tuple(pieces[:PIECES])


def _prompt(function: Function, act: str, chance: np.random.Generator) -> str:
    draw = chance.random()
    if draw < 0.15:
        return _filled(one_of(words.PROMPTS_VAGUE, chance), function, act, chance)
    by_act = act and draw < 0.5
    lines = words.PROMPTS_BY_ACT if by_act else words.PROMPTS_BY_NAME
    return _filled(one_of(lines, chance), function, reworded(act, REMEMBERED, chance), chance)


def _answer(function: Function, act: str, chance: np.random.Generator) -> str:
    by_act = act and chance.random() < 0.3
    lines = words.ANSWERS_BY_ACT if by_act else words.ANSWERS_BY_NAME
    return _filled(one_of(lines, chance), function, reworded(act, REMEMBERED, chance), chance)


def _error(function: Function, chance: np.random.Generator) -> str:
    body = [line.strip() for line in function.source.split("\n")[1:]]
    lines = [line for line in body if line and line[0] not in "#@)]}\"'"] or [function.name]
    at = int(chance.integers(len(lines)))
    line = lines[at][:100]
    names = _WORD.findall(line)
    name = names[int(chance.integers(len(names)))] if names else function.name
    number = min(function.first + 1 + at, function.last)
    raised = (
        f"TypeError: unsupported operand type(s) for {name}: 'NoneType' and 'str'",
        f"AttributeError: 'NoneType' object has no attribute '{name}'",
        f"KeyError: '{name}'",
        f"ValueError: invalid value for {name}",
        f"NameError: name '{name}' is not defined",
        "IndexError: list index out of range",
        "RecursionError: maximum recursion depth exceeded",
    )
    draw = chance.random()
    if draw < 0.2:
        test = f"{file_of_tests(function)}::test_{function.name.strip('_')}"
        return f"FAILED {test} - AssertionError: assert None == {name}"
    if draw < 0.35:
        return f'{function.path}:{number}: error: "{name}" has incompatible type "None"  [arg-type]'
    return (
        f'Traceback (most recent call last):\n  File "{function.path}", line {number}, in '
        f"{function.name}\n    {line}\n{one_of(raised, chance)}"
    )


def _questions(
    function: Function, act: str, number: int, chance: np.random.Generator
) -> tuple[Question, ...]:
    """One by what it does, one by another way."""
    forms: tuple[Form, ...] = ("name", "error", "file")
    form = forms[int(chance.integers(len(forms)))]
    lines: Sequence[str] = {
        "name": words.QUERIES_BY_NAME,
        "error": words.QUERIES_BY_ERROR,
        "file": words.QUERIES_BY_FILE,
    }[form]
    said: list[tuple[Form, str]] = [
        ("act", one_of(words.QUERIES_BY_ACT, chance)),
        (form, one_of(lines, chance)),
    ]
    return tuple(
        Question(
            _filled(line, function, reworded(act, REWORDED, chance), chance, REWORDED), form, number
        )
        for form, line in said
    )


def _filled(
    line: str, function: Function, act: str, chance: np.random.Generator, share: float = 0.0
) -> str:
    parts = _parts(function)
    place = " ".join(name_words(part) for part in parts[-2:])
    content = [word for word in _WORD.findall(act)[1:] if word.lower() not in _SHORT]
    values = {
        "act": act,
        "name": function.name,
        "words": reworded(name_words(function.name), share, chance),
        "file": function.path.rpartition("/")[2],
        "place": reworded(place, share, chance),
        "case": one_of(words.CASES, chance),
        "about": " ".join(content[-ABOUT_WORDS:]) or act,
    }
    return line.format_map(values)


def _parts(function: Function) -> list[str]:
    """The path of its module, without the folder of the standard library."""
    parts = function.path.removesuffix(".py").removesuffix("/__init__").split("/")
    return [part for part in parts if "." not in part] or parts


def file_of_tests(function: Function) -> str:
    """Where its tests would be."""
    return f"tests/test_{_parts(function)[-1].strip('_')}.py"


def one_of(lines: Sequence[str], chance: np.random.Generator) -> str:
    """One of the lines."""
    return lines[int(chance.integers(len(lines)))]
