"""What the ranking is fitted on: stores of events with questions whose answers are known.

Four kinds, none of them from a benchmark's own data: histories of permissively licensed
repositories (a commit's subject and its hunks), functions of packages and the first sentences of
their docstrings, generated coding sessions over such functions, and generated conversations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.coding_sessions import Workshop
from bench.conversation_facts import topics
from bench.conversations import conversation
from bench.docstrings import event_of, queries_of
from bench.functions import functions
from bench.git_hunks import name_of
from bench.git_hunks import queries_of as subjects_of
from bench.report import print_progress
from bench.sessions import recorded
from localmem_node.errors import HistoryError
from localmem_node.git_history import recent_hunks
from localmem_node.retrieval.fields import text_for_encoding
from localmem_node.seams import Encoder
from localmem_protocol.events import Event, parse_draft, stamp

RING: Final = 2_500
SMALL_RING: Final = 200
HISTORY_HUNKS: Final = 5_000
FUNCTIONS: Final = 2_500
FUNCTION_SETS: Final = 4
QUERIES: Final = 400
SESSION_FUNCTIONS: Final = 600
SESSIONS: Final = 1_200
SESSION_SETS: Final = 3
CONVERSATIONS: Final = 40

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its vector, and the positions of its answers among the events."""

    text: str
    vector: Vectors
    answers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A store, oldest event first, with the vectors of its events and what is asked of it."""

    domain: str
    name: str
    events: Sequence[Event]
    vectors: Vectors
    questions: Sequence[Asked]

    def part(self, first: int, end: int) -> Lesson:
        """The events from `first` up to `end`, and the questions whose answers are all there."""
        kept = [
            Asked(each.text, each.vector, tuple(at - first for at in each.answers))
            for each in self.questions
            if first <= min(each.answers) and max(each.answers) < end
        ]
        name = f"{self.name}[{first}:{end}]"
        return Lesson(self.domain, name, self.events[first:end], self.vectors[first:end], kept)


def of_history(repository: Path, encoder: Encoder) -> Iterator[Lesson]:
    """The newest hunks of a repository in stores of RING. Raises HistoryError."""
    hunks = recent_hunks(repository, HISTORY_HUNKS)
    events = [
        stamp(hunk.draft, device="0" * 16, clock=at + 1, sequence=at + 1)
        for at, hunk in enumerate(hunks)
    ]
    asked = [(text, tuple(answers)) for text, answers in subjects_of(hunks)]
    whole = _lesson("git", name_of(repository), events, asked, encoder)
    for end in range(len(events), RING // 2, -RING):
        yield whole.part(max(end - RING, 0), end)


def of_functions(roots: Sequence[Path], seed: int, encoder: Encoder) -> Iterator[Lesson]:
    """Functions of packages, in FUNCTION_SETS stores."""
    found = functions(roots, FUNCTION_SETS * FUNCTIONS, seed)
    for number in range(FUNCTION_SETS):
        chosen = found[number::FUNCTION_SETS]
        events = [event_of(function, at + 1) for at, function in enumerate(chosen)]
        asked = [(text, tuple(sorted(at))) for text, at in queries_of(chosen, QUERIES, seed)]
        yield _lesson("docstrings", f"functions {number}", events, asked, encoder)


def of_sessions(roots: Sequence[Path], seed: int, encoder: Encoder) -> Iterator[Lesson]:
    """Coding sessions over functions of packages, in stores of RING and of SMALL_RING events."""
    for number in range(SESSION_SETS):
        found = functions(roots, SESSION_FUNCTIONS, seed + 1 + number)
        workshop = Workshop(found, np.random.default_rng(seed + number))
        # Fewer than `gap` sessions: no store holds two of the same task.
        sessions = list(workshop.sessions(min(workshop.gap, SESSIONS)))
        events, questions = recorded(sessions)
        asked = [(each.text, tuple(sorted(each.answers))) for each in questions]
        whole = _lesson("sessions", f"sessions {number}", events, asked, encoder)
        for end in range(len(events), RING // 2, -RING):
            yield whole.part(max(end - RING, 0), end)


def of_conversations(seed: int, encoder: Encoder) -> Iterator[Lesson]:
    """Generated conversations, one store each; the even and the odd ones share no topic."""
    for number in range(CONVERSATIONS):
        about = topics()[number % 2 :: 2]
        held = conversation(np.random.default_rng(seed + number), about)
        turns = [(turn.session, turn.speaker, turn.text, turn.timestamp_ms) for turn in held.turns]
        asked = [(each.text, each.answers) for each in held.questions]
        yield _lesson("conversations", f"{number}", conversation_events(turns), asked, encoder)


def conversation_events(turns: Sequence[tuple[int, str, str, int]]) -> list[Event]:
    """The events of turns (session, speaker, text, time): notes that begin with who speaks."""
    return [
        stamp(
            parse_draft(
                {
                    "timestamp": moment,
                    "snippet": f"{speaker}: {text}",
                    "kind": "note",
                    "session": f"session {session}",
                }
            ),
            device="0" * 16,
            clock=at + 1,
            sequence=at + 1,
        )
        for at, (session, speaker, text, moment) in enumerate(turns)
    ]


def conversation_lesson(
    name: str,
    events: list[Event],
    asked: Sequence[tuple[str, tuple[int, ...]]],
    encoder: Encoder,
) -> Lesson:
    """A conversation from elsewhere, to measure."""
    return _lesson("conversations", name, events, asked, encoder)


def all_lessons(
    repositories: Sequence[Path], roots: Sequence[Path], seed: int, encoder: Encoder
) -> Iterator[Lesson]:
    """Every lesson. A repository that git cannot read is named and left out."""
    for repository in repositories:
        try:
            yield from of_history(repository, encoder)
        except HistoryError as error:
            print_progress(f"left out: {error}")
    yield from of_functions(roots, seed, encoder)
    yield from of_sessions(roots, seed, encoder)
    yield from of_conversations(seed, encoder)


def _lesson(
    domain: str,
    name: str,
    events: Sequence[Event],
    asked: Sequence[tuple[str, tuple[int, ...]]],
    encoder: Encoder,
) -> Lesson:
    print_progress(f"{domain} {name}: {len(events)} events, {len(asked)} questions; encoding …")
    texts = [text_for_encoding(event) for event in events]
    different = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    vectors = encoder.encode(list(different))[[different[text] for text in texts]]
    of_questions = encoder.encode([text for text, _ in asked])
    questions = [
        Asked(text, vector, answers)
        for (text, answers), vector in zip(asked, of_questions, strict=True)
        if answers
    ]
    return Lesson(domain, name, events, vectors, questions)
