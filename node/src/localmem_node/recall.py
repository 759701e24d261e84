"""What a step of a session puts into the model's context, and what it changes for the next ones.

    session start          the digest of the project; after a compaction that of the session itself
    first prompt           the digest, if the start was missed
    prompt                 what answers it, of all that the model does not have before it
    compaction             from then on the session's own events may come back

An event of the same session is left out while the model still has it: since the session began, or
since it was last compacted or cleared. Nothing is given twice (`Delivered`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

import msgspec

from localmem_node.context import CHARACTERS_MAX, HITS, SCORE_MIN, render
from localmem_node.delivered import Delivered
from localmem_node.digest import project_digest, session_digest
from localmem_node.editors.captured import Told
from localmem_node.engine import Engine
from localmem_node.plain_text import size_of
from localmem_node.project import Project
from localmem_node.results import (
    BUDGET_DEFAULT,
    PROMPT_CHARACTERS_MAX,
    Context,
    Found,
    shortened,
)
from localmem_node.selection import Selection
from localmem_node.session_states import Owed, SessionState, SessionStates
from localmem_protocol.events import Event
from localmem_protocol.limits import LABEL_BYTES_MAX

FOREIGN_SHARE: Final = 0.5
"""What an event of another project counts, beside one of the session's own."""

DIGEST_LOOKS: Final[tuple[tuple[tuple[str, ...], int], ...]] = (
    (("prompt", "answer", "error"), 150),
    (("edit", "command"), 250),
)
"""Kinds, and how many events of them a digest looks at: what was said of many sessions, and what was
done in the newest. Each event is opened, and somebody waits."""

DIGEST_DAYS: Final = 30
"""What is older has no place in a digest, unless there is nothing else."""

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a step is told, with the events in it.

    `given` are those of them that are not to be given again; `owed` is the digest that is paid.
    """

    text: str = ""
    events: tuple[Event, ...] = ()
    given: tuple[Event, ...] = ()
    owed: Owed = ""

    @property
    def tokens(self) -> int:
        """The estimate, on the high side."""
        return size_of(self.text).tokens


class Recall:
    """Thread-safe, but one session's steps are to come one after the other."""

    def __init__(self, engine: Engine, delivered: Delivered, states: SessionStates) -> None:
        self._engine, self._delivered, self._states = engine, delivered, states

    def note(self, told: Told, now_ms: int) -> None:
        """What a step changes, whether or not anybody is told anything."""
        session = told.session
        if not _is_label(session):
            return
        compacted = told.step == "before compaction" or (
            told.step == "session start" and told.source in ("compact", "clear")
        )
        if compacted or told.step == "after compaction":
            before, after = self._states.change(
                session, lambda state: _emptied(state, told, now_ms)
            )
            if after.lost_ms != before.lost_ms:
                self._delivered.reset(session)
        elif told.step in ("prompt", "tool", "answer") and self._states.of(session).compacting:
            self._states.change(
                session, lambda state: msgspec.structs.replace(state, compacting=False)
            )

    def recall(self, told: Told, project: Project | None, now_ms: int) -> Recalled:
        """What the model is told at this step, and from now on counts as told; `note` comes first."""
        session = told.session
        if not _is_label(session) or told.step not in ("session start", "prompt"):
            return Recalled()
        state = self._states.of(session)
        digest, shown = self._digest(session, state, project, now_ms)
        self._states.change(session, lambda now: _paid(now, state))
        if told.step == "session start" or not told.prompt or not told.prompt.strip():
            return Recalled(digest.text, shown, (), state.owed)
        room = CHARACTERS_MAX - size_of(digest.text).characters - 1
        block, given = self._answer(session, told.prompt, state, project, now_ms, room)
        self._engine.answered([event.id for event in given])
        self._delivered.add(session, given)
        text = "\n".join(part for part in (digest.text, block.text) if part)
        events = {event.id: event for event in (*shown, *given)}
        return Recalled(text, tuple(events.values()), given, state.owed)

    def take_back(self, told: Told, recalled: Recalled) -> None:
        """Nobody was there any more to be told this."""
        if not _is_label(told.session):
            return
        if recalled.owed:
            owed = recalled.owed
            self._states.change(
                told.session, lambda state: msgspec.structs.replace(state, owed=state.owed or owed)
            )
        self._delivered.take_back(told.session, recalled.given)

    def _digest(
        self, session: str, state: SessionState, project: Project | None, now_ms: int
    ) -> tuple[Context, tuple[Event, ...]]:
        if state.owed == "session":
            among = Selection(session=session, unless=(session, state.lost_ms))
            events = self._recent(among)
            digest = session_digest(events)
        elif state.owed == "project" and project is not None:
            events = self._of_project(project, (session, state.lost_ms), now_ms)
            digest = project_digest(events, now_ms=now_ms, device=self._engine.device)
        else:
            return Context(), ()
        shown = set(digest.ids)
        return digest, tuple(event for event in events if event.id in shown)

    def _of_project(self, project: Project, unless: tuple[str, int], now_ms: int) -> list[Event]:
        since = max(0, now_ms - DIGEST_DAYS * _DAY_MS)
        for lately in (since, None):
            found = self._recent(Selection(project=project.ids, since=lately, unless=unless))
            if found:
                return found
        return []

    def _recent(self, among: Selection) -> list[Event]:
        return [
            found.event
            for kinds, most in DIGEST_LOOKS
            for found in self._engine.recent(
                most, selection=msgspec.structs.replace(among, kind=kinds)
            )
        ]

    def _answer(
        self,
        session: str,
        prompt: str,
        state: SessionState,
        project: Project | None,
        now_ms: int,
        characters: int,
    ) -> tuple[Context, tuple[Event, ...]]:
        text = prompt.encode(errors="replace").decode()[:PROMPT_CHARACTERS_MAX]
        # What the model has is left out before the search: it would fill all places.
        among = Selection(unless=(session, state.lost_ms))
        found = self._engine.query_recent(HITS, shortened(text), selection=among, counted=False)
        hits = _preferred(found, project)
        events = [found.event for found in hits]
        block = render(
            hits,
            text,
            budget_tokens=BUDGET_DEFAULT,
            now_ms=now_ms,
            device=self._engine.device,
            delivered=self._delivered.known(session, events),
            characters=characters,
        )
        return block, tuple(event for event in events if event.id in block.ids)


def _preferred(hits: Sequence[Found], project: Project | None) -> list[Found]:
    """The hits that are worth their place, best first; those of the project count more."""
    ids = set(project.ids) if project is not None else set()

    def worth(found: Found) -> float:
        own = not ids or found.event.project in ids
        return found.score if own else FOREIGN_SHARE * found.score

    worthy = [found for found in hits if worth(found) >= SCORE_MIN]
    return sorted(worthy, key=worth, reverse=True)


def _emptied(state: SessionState, told: Told, now_ms: int) -> SessionState:
    """The state when the context was, or is being, emptied; each compaction counts once."""
    if told.step == "session start" and told.source == "clear":
        return SessionState(lost_ms=now_ms, owed="project")
    if told.step == "after compaction":
        if state.compacting:
            return msgspec.structs.replace(state, compacting=False)
        return SessionState(lost_ms=now_ms, owed="session")
    if state.compacting and told.step == "session start":
        return state
    return SessionState(lost_ms=now_ms, owed="session", compacting=True)


def _paid(state: SessionState, told: SessionState) -> SessionState:
    """What was owed when it was told is paid; what a compaction since then took is not."""
    again = state.lost_ms != told.lost_ms
    return state if again else msgspec.structs.replace(state, owed="")


def _is_label(session: str | None) -> TypeGuard[str]:
    return session is not None and 0 < len(session.encode(errors="replace")) <= LABEL_BYTES_MAX
