"""From what an editor told to events in the store: each real-world event once, in its project, unless
it is not to be seen.

    paused? ─▶ seen? ─▶ project, path ─▶ admission ─▶ record (durable) ─▶ remembered as seen
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from localmem_node.capture.admission import DENIED_PROJECT as DENIED
from localmem_node.editors.captured import EDITORS, Captured
from localmem_node.engine import Engine
from localmem_node.pausing import Pauses
from localmem_node.project import Project
from localmem_node.projects import Projects
from localmem_node.seen import Claim, Seen
from localmem_protocol.clock import reading_ms
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft, Event


@dataclass(slots=True)
class Taken:
    """What became of some events; `failed` by their index."""

    recorded: list[Event] = field(default_factory=list)
    known: int = 0
    too_old: int = 0
    paused: int = 0
    failed: list[tuple[int, EventError]] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        failed = sorted(self.failed, key=lambda one: one[0])
        return {
            "recorded": len(self.recorded),
            "known": self.known,
            "too_old": self.too_old,
            "paused": self.paused,
            "failed": [
                {"index": index, "field": error.field, "message": error.problem}
                for index, error in failed
            ],
        }


@dataclass(frozen=True, slots=True)
class Claimed:
    """An event that is ours to record."""

    index: int
    draft: Draft
    claim: Claim


class Capturing:
    """Thread-safe."""

    def __init__(
        self,
        engine: Engine,
        seen: Seen,
        projects: Projects,
        pauses: Pauses,
        *,
        answers: bool,
        denied: Collection[str] = (),
    ) -> None:
        """Without `answers` what a model said is kept as its hash alone. `denied` are the ids of
        projects that stay out, under whichever of its ids one is named.
        """
        self._denied = frozenset(denied)
        self._engine, self._seen = engine, seen
        self._projects, self._pauses = projects, pauses
        self._answers = answers

    def project(self, folder: str | None) -> Project | None:
        """The project that a session works in."""
        return self._projects.of(folder)

    def closed(self, projects: Sequence[str], now_ms: int) -> str:
        """Why nothing of a project with these ids is recorded now; "" if it is."""
        if not self._denied.isdisjoint(projects):
            return f"the project {DENIED}"
        paused = self._pauses.covers(projects, None, now_ms)
        return "the user paused localmem" if paused else ""

    def claim(
        self,
        captured: Sequence[Captured],
        project: Project | None,
        taken: Taken,
        *,
        imported: bool = False,
    ) -> list[Claimed]:
        """Those events that nobody has recorded, nor is about to; the others are counted in `taken`.

        Each is to be given to `record`, which lets go of what it cannot record.
        """
        oldest_ms = self._oldest_ms() if imported else None
        ids = project.ids if project is not None else ()
        claimed: list[Claimed] = []
        for index, one in enumerate(captured):
            draft = one.draft
            projects = ids or ((draft.project,) if draft.project is not None else ())
            if self._pauses.covers(projects, draft.session, draft.timestamp):
                taken.paused += 1
                continue
            if not self._denied.isdisjoint(projects):
                taken.failed.append((index, EventError("project", DENIED)))
                continue
            claim = self._seen.claim(one.key, one.also, one.unless)
            if claim is None:
                taken.known += 1
            elif oldest_ms is not None and draft.timestamp < oldest_ms and not draft.pinned:
                self._seen.release([claim])
                taken.too_old += 1
            else:
                claimed.append(Claimed(index, self._placed(draft, project), claim))
        return claimed

    def record(
        self,
        claimed: Sequence[Claimed],
        folder: str | None,
        project: Project | None,
        taken: Taken,
    ) -> None:
        """Record them, durably; what came of each is counted in `taken`. Raises StoreError."""
        if not claimed:
            return
        kept: list[Claim] = []
        try:
            # A path of the project begins at its root, wherever in it the session works.
            begin = project.root if project is not None else folder
            admitted: list[tuple[Claimed, Draft]] = []
            drafts = self._engine.admit([one.draft for one in claimed], begin)
            for one, draft in zip(claimed, drafts, strict=True):
                if isinstance(draft, EventError):
                    taken.failed.append((one.index, draft))
                else:
                    admitted.append((one, draft))
            outcomes = self._engine.record_admitted([draft for _, draft in admitted])
            for (one, _), outcome in zip(admitted, outcomes, strict=True):
                if isinstance(outcome, EventError):
                    taken.failed.append((one.index, outcome))
                else:
                    taken.recorded.append(outcome)
                    kept.append(one.claim)
        finally:
            self._seen.keep(kept)
            self._seen.release(one.claim for one in claimed if one.claim not in kept)

    def take(
        self, captured: Iterable[Captured], folder: str | None, *, imported: bool = False
    ) -> Taken:
        """Claim and record. Raises StoreError."""
        taken, project = Taken(), self.project(folder)
        claimed = self.claim(list(captured), project, taken, imported=imported)
        self.record(claimed, folder, project, taken)
        return taken

    def _placed(self, draft: Draft, project: Project | None) -> Draft:
        changes: dict[str, Any] = {}
        if project is not None:
            if draft.project is None:
                changes["project"] = project.id
            if draft.file_path is not None:
                changes["file_path"] = project.relative(draft.file_path)
        if not self._answers and _is_said_by_model(draft):
            changes["snippet"] = stand_in(draft)
        return msgspec.structs.replace(draft, **changes) if changes else draft

    def _oldest_ms(self) -> int | None:
        """The moment of the oldest event, once a full store has to give up some; else None."""
        oldest = self._engine.next_to_leave()
        return None if oldest is None else reading_ms(oldest[0])


def stand_in(draft: Draft) -> str:
    """One line in the place of what a model said."""
    name = "answer" if draft.kind == "answer" else "summary"
    return f"({name} of {len(draft.snippet):,} characters, not kept: capture.answers is false)"


def _is_said_by_model(draft: Draft) -> bool:
    """Answers, and what an editor's model wrote of a session when it was compacted."""
    return draft.kind == "answer" or (draft.kind == "note" and draft.tool in EDITORS)
