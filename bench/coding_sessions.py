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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np

from bench import coding_words as words
from bench.coding_texts import Material, Piece, Question, file_of_tests, material, one_of
from bench.functions import Function
from localmem_protocol.events import Draft, parse_draft

SECONDS: Final = 300
TASK_FUNCTIONS: Final = 3
STEPS: Final = 3
"""Parts into which the tasks are cut: each part is shuffled, then comes the next."""


@dataclass(frozen=True, slots=True)
class Happening:
    """An event as offered, and the numbers of the functions that it concerns."""

    draft: Draft
    functions: frozenset[int]


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


class Workshop:
    """Makes sessions over these functions, the same for the same state of `chance`."""

    def __init__(self, functions: Sequence[Function], chance: np.random.Generator) -> None:
        self._chance = chance
        known = sorted(functions, key=lambda each: (each.path, each.first))
        self._materials = [material(each, at, chance) for at, each in enumerate(known)]
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
            yield "prompt", one_of(words.CHATTER, chance), None, nothing
        run = f"python -m pytest {file_of_tests(one.function)}"
        yield (
            "command",
            run if chance.random() < 0.5 else one_of(words.COMMANDS, chance),
            None,
            nothing,
        )
        if chance.random() < 0.5:
            yield "error", one.error, None, about
        if chance.random() < 0.8:
            yield "answer", one.answer, None, about
        if chance.random() < 0.5:
            yield "command", one_of(words.COMMANDS, chance), None, nothing

    def _stamped(self, offered: Sequence[_Offered], number: int) -> Iterator[Happening]:
        chance = self._chance
        self._clock += int(chance.integers(SECONDS, 40 * SECONDS)) * 1000
        seconds = np.sort(chance.choice(SECONDS, size=len(offered), replace=False))
        tool = one_of(words.TOOLS, chance)
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


_Offered = tuple[str, str, "tuple[Function, Piece] | None", frozenset[int]]


def _tasks(materials: Sequence[Material], chance: np.random.Generator) -> list[tuple[int, ...]]:
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
