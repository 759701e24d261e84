"""From events of transcripts to a memory that keeps each once, in batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from localmem_node.transcripts.found import Found

BATCH_EVENTS_MAX: Final = 256
"""Events sent at once; what one call takes."""

BATCH_CHARACTERS_MAX: Final = 1024 * 1024
"""Characters of snippets sent at once; even all escaped, they stay below what one call takes."""

REFUSED_LISTED_MAX: Final = 1_000
"""Refused events that a report lists; further ones are only counted."""

Capture = Callable[[Sequence[Mapping[str, Any]], str | None], dict[str, Any]]
"""([{"event", "key", "also"}], where they happened) → {"recorded", "known", "too_old", "failed": […]}
for at most 256 events."""


@dataclass(slots=True)
class Imported:
    """What became of the transcripts: `files` that had something new, `lines` read in them, of which
    `skipped` made no sense or were too long. Each event was `recorded`, `known`, `too_old` for a full
    store, left out as `before` the time asked for or by a `paused` capture, or `refused`.
    """

    files: int = 0
    lines: int = 0
    skipped: int = 0
    recorded: int = 0
    known: int = 0
    too_old: int = 0
    before: int = 0
    paused: int = 0
    refused: int = 0
    refusals: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


class Sender:
    """Gathers events and sends them in batches, each of one folder."""

    def __init__(
        self,
        capture: Capture,
        report: Imported,
        *,
        since_ms: int | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._capture, self._report = capture, report
        self._since_ms, self._progress = since_ms, progress
        self._batch: list[Found] = []
        self._size = 0
        self._opened: set[str] = set()
        self._captured_turn = False

    @property
    def waiting(self) -> int:
        """Events that are not yet sent."""
        return len(self._batch)

    def add(self, found: Found) -> None:
        """One event more."""
        draft = found.captured.draft
        if self._since_ms is not None and draft.timestamp < self._since_ms:
            self._report.before += 1
        elif found.opens:
            self.flush()
            self._open(found)
        elif found.within and self._captured_turn:
            self._report.known += 1
        else:
            if self._batch and (
                len(self._batch) >= BATCH_EVENTS_MAX
                or self._size + len(draft.snippet) > BATCH_CHARACTERS_MAX
                or self._batch[0].folder != found.folder
            ):
                self.flush()
            self._batch.append(found)
            self._size += len(draft.snippet)

    def flush(self) -> None:
        """Send what waits."""
        if self._batch:
            batch, self._batch, self._size = self._batch, [], 0
            self._send(batch)

    def begin(self) -> None:
        """A new transcript begins."""
        self._captured_turn = False
        self._opened.clear()

    def _open(self, found: Found) -> None:
        """Send the prompt of a turn by itself: if somebody else told it, all of the turn was told."""
        key = found.captured.key
        known = self._send([found])["known"] == 1
        self._captured_turn = known and key not in self._opened
        if not known:
            self._opened.add(key)

    def _send(self, batch: list[Found]) -> dict[str, Any]:
        folder = batch[0].folder
        # A path of Windows, say: this machine has no such folder, and so no project in it.
        here = folder if folder is not None and os.path.isabs(folder) else None
        answer = self._capture([_event(one) for one in batch], here)
        report = self._report
        report.recorded += answer["recorded"]
        report.known += answer["known"]
        report.too_old += answer["too_old"]
        report.paused += answer.get("paused", 0)
        report.refused += len(answer["failed"])
        room = max(0, REFUSED_LISTED_MAX - len(report.refusals))
        for one in answer["failed"][:room]:
            draft = batch[one["index"]].captured.draft
            where = f"{one['field']}: " if one["field"] else ""
            report.refusals.append(
                {"session": draft.session, "timestamp": draft.timestamp, "kind": draft.kind,
                 "reason": f"{where}{one['message']}"}
            )  # fmt: skip
        self._progress(report.recorded + report.known + report.too_old + report.refused)
        return answer


def _event(found: Found) -> dict[str, Any]:
    captured = found.captured
    return {
        "event": msgspec.to_builtins(captured.draft),
        "key": captured.key,
        "also": list(captured.also),
    }
