"""What takes events of transcripts in the place of a daemon, and holds who sends them to the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localmem_node.editors.captured import Captured
from localmem_node.errors import DaemonError
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft, parse_draft


class CapturingDaemon:
    """Keeps each event once, by its keys. `oldest_ms` is that of a full store; tools in `denied` are
    refused; after `calls_left` calls it is gone.
    """

    def __init__(self, *, oldest_ms: int = 0, denied: Sequence[str] = ()) -> None:
        self.kept: list[tuple[Draft, str | None]] = []
        self.seen: set[str] = set()
        self.calls: list[int] = []
        self.calls_left = 1_000_000
        self._oldest_ms, self._denied = oldest_ms, denied

    def hooked(self, captured: Sequence[Captured]) -> None:
        """Events that a hook told."""
        for one in captured:
            if self.seen.isdisjoint({one.key, *one.unless}):
                self.seen |= {one.key, *one.also}

    def __call__(self, events: Sequence[Mapping[str, Any]], folder: str | None) -> dict[str, Any]:
        if not self.calls_left:
            raise DaemonError("the daemon went away before it answered")
        self.calls_left -= 1
        self.calls.append(len(events))
        assert 1 <= len(events) <= 256
        assert folder is None or folder.startswith("/")
        answer: dict[str, Any] = {"recorded": 0, "known": 0, "too_old": 0, "failed": []}
        for index, one in enumerate(events):
            self._take(index, one, folder, answer)
        return answer

    def _take(
        self, index: int, one: Mapping[str, Any], folder: str | None, answer: dict[str, Any]
    ) -> None:
        assert set(one) == {"event", "key", "also"}
        assert all(0 < len(key.encode()) <= 4096 for key in (one["key"], *one["also"]))
        try:
            draft = parse_draft(one["event"])
        except EventError as error:
            raise AssertionError(f"no draft: {error}") from error
        if one["key"] in self.seen:
            answer["known"] += 1
        elif draft.timestamp < self._oldest_ms:
            answer["too_old"] += 1
        elif draft.tool in self._denied:
            answer["failed"].append({"index": index, "field": "tool", "message": "is denied"})
        else:
            self.seen |= {one["key"], *one["also"]}
            self.kept.append((draft, folder))
            answer["recorded"] += 1

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(kind, snippet) of everything kept."""
        return [(draft.kind, draft.snippet) for draft, _ in self.kept]
