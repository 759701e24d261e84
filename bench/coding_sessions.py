"""Coding sessions over real source files, and what is asked about them later in other words.

A *task* is one to three documented functions of one file (`bench.functions`). A *session* is work on
a task within five minutes: a prompt, reads, edits of its functions (pieces of their source, 200 to
400 characters where there are so many, without the docstring), commands, perhaps an error with a
traceback, an answer, and chatter. A *question* about a function of the session comes from the first
sentence of its docstring, which no edit has, or from the words of its name and file, in both cases
with other words for the same (`bench.coding_words`), as far as the table has some.

What an event says about a function is fixed with the function, so that a few thousand texts make any
number of sessions. They differ in which of a task's events happen, which function the prompt is
about, and what is recorded before and after.

Relevant for a question are those events of its session that concern the function: its edits and
reads, and if the prompt was about it, prompt, error and answer. Commands and chatter never are. The
sessions of one task are so far apart (`gap`) that a ring of fewer sessions never holds two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal

import numpy as np

from bench import coding_words as words
from bench.docstrings import first_sentence, is_query
from bench.functions import Function
from localmem_protocol.events import Draft, parse_draft

Form = Literal["act", "name", "error", "file"]

SECONDS: Final = 300
PIECE_CHARACTERS: Final = (200, 400)
PIECES: Final = 2
"""Edited of a function at most; what follows them is as good as its own function."""

TASK_FUNCTIONS: Final = 3
REWORDED: Final = 0.8
"""Share of the words with another word for the same that a question says so."""

REMEMBERED: Final = 0.2
"""The same for what was said in the session."""

ABOUT_WORDS: Final = 3
STEPS: Final = 3
"""Parts into which the tasks are cut: each part is shuffled, then comes the next."""

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
class Happening:
    """An event as offered, and the numbers of the functions that it concerns."""

    draft: Draft
    functions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked later about a function."""

    text: str
    form: Form
    function: int


@dataclass(frozen=True, slots=True)
class Session:
    """Events in order, and one question about them."""

    happenings: tuple[Happening, ...]
    question: Question

    @property
    def relevant(self) -> frozenset[int]:
        """Positions of the events that answer the question."""
        asked = self.question.function
        return frozenset(at for at, one in enumerate(self.happenings) if asked in one.functions)


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Material:
    """All that is ever said about a function."""

    function: Function
    pieces: tuple[_Piece, ...]
    prompt: str
    error: str
    answer: str
    questions: tuple[Question, ...]


class Workshop:
    """Makes sessions over these functions, the same for the same state of `chance`."""

    def __init__(self, functions: Sequence[Function], chance: np.random.Generator) -> None:
        self._chance = chance
        known = sorted(functions, key=lambda each: (each.path, each.first))
        self._materials = [_material(each, at, chance) for at, each in enumerate(known)]
        self.tasks = _tasks(self._materials, chance)
        self._clock = 1_700_000_000_000

    @property
    def gap(self) -> int:
        """So many sessions at least lie between two of the same task."""
        return len(self.tasks) - len(self.tasks) // STEPS - 1

    def sessions(self, count: int) -> Iterator[Session]:
        """`count` sessions, every task in turn in a new order."""
        left: list[int] = []
        for number in range(count):
            left = left or self._order()
            yield self._session(self.tasks[left.pop()], number)

    def _order(self) -> list[int]:
        parts = np.array_split(np.arange(len(self.tasks)), STEPS)
        return [int(task) for part in reversed(parts) for task in self._chance.permutation(part)]

    def _session(self, task: Sequence[int], number: int) -> Session:
        chance = self._chance
        main = task[int(chance.integers(len(task)))]
        offered = list(self._offered(task, main))
        edited = sorted(
            {at for kind, _, _, concerned in offered if kind == "edit" for at in concerned}
        )
        able = [at for at in edited if self._materials[at].questions]
        asked = self._materials[able[int(chance.integers(len(able)))]]
        erred = {at for kind, _, _, concerned in offered if kind == "error" for at in concerned}
        questions = [
            each for each in asked.questions if each.form != "error" or each.function in erred
        ]
        question = questions[int(chance.integers(len(questions)))]
        return Session(tuple(self._stamped(offered, number)), question)

    def _offered(self, task: Sequence[int], main: int) -> Iterator[_Offered]:
        """Kind, text, piece and functions of what happens, in order."""
        chance = self._chance
        one = self._materials[main]
        about = frozenset({main})
        nothing: frozenset[int] = frozenset()
        yield "prompt", one.prompt, None, about
        if chance.random() < 0.5:
            yield "read", one.pieces[0].text, (one.function, one.pieces[0]), about
        for at in task:
            each = self._materials[at]
            for piece in each.pieces:
                if piece is each.pieces[0] or chance.random() < 0.6:
                    yield "edit", piece.text, (each.function, piece), frozenset({at})
        if chance.random() < 0.4:
            yield "prompt", _one(words.CHATTER, chance), None, nothing
        run = f"python -m pytest {_test_file(one.function)}"
        yield (
            "command",
            run if chance.random() < 0.5 else _one(words.COMMANDS, chance),
            None,
            nothing,
        )
        if chance.random() < 0.5:
            yield "error", one.error, None, about
        if chance.random() < 0.8:
            yield "answer", one.answer, None, about
        if chance.random() < 0.5:
            yield "command", _one(words.COMMANDS, chance), None, nothing

    def _stamped(self, offered: Sequence[_Offered], number: int) -> Iterator[Happening]:
        chance = self._chance
        self._clock += int(chance.integers(SECONDS, 40 * SECONDS)) * 1000
        seconds = np.sort(chance.choice(SECONDS, size=len(offered), replace=False))
        tool = _one(words.TOOLS, chance)
        for (kind, text, place, concerned), second in zip(offered, seconds, strict=True):
            fields: dict[str, Any] = {
                "timestamp": self._clock + int(second) * 1000,
                "snippet": text,
                "kind": kind,
                "tool": tool,
                "session": f"{number:08x}",
            }
            if place is not None:
                function, piece = place
                fields |= {
                    "filePath": function.path,
                    "selectionRange": (piece.first, piece.last),
                    "project": function.package,
                }
            yield Happening(parse_draft(fields), concerned)
        self._clock += SECONDS * 1000


_Offered = tuple[str, str, "tuple[Function, _Piece] | None", frozenset[int]]


def reworded(text: str, share: float, chance: np.random.Generator) -> str:
    """With another word for the same, for this share of the words that have one."""

    def other(match: re.Match[str]) -> str:
        word = match[0].lower()
        stem = word if word in _OTHERS else word.removesuffix("s")
        if stem not in _OTHERS or chance.random() > share:
            return match[0]
        first, *rest = _one(_OTHERS[stem], chance).split(" ")
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
    parts = [part.lower() for part in _PARTS.findall(name)]
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


def _material(function: Function, number: int, chance: np.random.Generator) -> _Material:
    act = act_of(function)
    pieces = _pieces(function)
    return _Material(
        function,
        pieces,
        prompt=_prompt(function, act, chance),
        error=_error(function, chance),
        answer=_answer(function, act, chance),
        questions=_questions(function, act, number, chance) if act else (),
    )


def _pieces(function: Function) -> tuple[_Piece, ...]:
    """The beginning of a function in pieces of whole lines."""
    pieces: list[_Piece] = []
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
                pieces.append(_Piece(text, first, first + len(lines) - 1))
            first += len(lines)
            lines = []
    return tuple(pieces[:PIECES])


def _prompt(function: Function, act: str, chance: np.random.Generator) -> str:
    draw = chance.random()
    if draw < 0.15:
        return _filled(_one(words.PROMPTS_VAGUE, chance), function, act, chance)
    by_act = act and draw < 0.5
    lines = words.PROMPTS_BY_ACT if by_act else words.PROMPTS_BY_NAME
    return _filled(_one(lines, chance), function, reworded(act, REMEMBERED, chance), chance)


def _answer(function: Function, act: str, chance: np.random.Generator) -> str:
    by_act = act and chance.random() < 0.3
    lines = words.ANSWERS_BY_ACT if by_act else words.ANSWERS_BY_NAME
    return _filled(_one(lines, chance), function, reworded(act, REMEMBERED, chance), chance)


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
        test = f"{_test_file(function)}::test_{function.name.strip('_')}"
        return f"FAILED {test} - AssertionError: assert None == {name}"
    if draw < 0.35:
        return f'{function.path}:{number}: error: "{name}" has incompatible type "None"  [arg-type]'
    return (
        f'Traceback (most recent call last):\n  File "{function.path}", line {number}, in '
        f"{function.name}\n    {line}\n{_one(raised, chance)}"
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
        ("act", _one(words.QUERIES_BY_ACT, chance)),
        (form, _one(lines, chance)),
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
        "case": _one(words.CASES, chance),
        "about": " ".join(content[-ABOUT_WORDS:]) or act,
    }
    return line.format_map(values)


def _parts(function: Function) -> list[str]:
    """The path of its module, without the folder of the standard library."""
    parts = function.path.removesuffix(".py").removesuffix("/__init__").split("/")
    return [part for part in parts if "." not in part] or parts


def _test_file(function: Function) -> str:
    return f"tests/test_{_parts(function)[-1].strip('_')}.py"


def _tasks(materials: Sequence[_Material], chance: np.random.Generator) -> list[tuple[int, ...]]:
    """Functions of one file that lie side by side; at least one of them can be asked about."""
    tasks: list[tuple[int, ...]] = []
    numbers = range(len(materials))
    for _, group in groupby(numbers, key=lambda at: materials[at].function.path):
        left = list(group)
        while left:
            size = int(chance.integers(1, TASK_FUNCTIONS + 1))
            task, left = tuple(left[:size]), left[size:]
            if any(materials[at].questions for at in task):
                tasks.append(task)
    return [tasks[int(at)] for at in chance.permutation(len(tasks))]


def _one(lines: Sequence[str], chance: np.random.Generator) -> str:
    return lines[int(chance.integers(len(lines)))]
