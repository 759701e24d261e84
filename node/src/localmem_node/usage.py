"""What was captured, what was given to models, and how much of that was used: counted, never kept.

Numbers by day and editor, in a small file of the state folder (0600) that is written now and then and
at the end: a crash takes the last half minute of them.

An event that was injected counts as used once, if a later edit or command of the same session touches
its file (a command, by naming it), or if its id is asked for through MCP. It is a hint, and no proof:
the model may have found the file by itself, and what it only read leaves no trace.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final

import msgspec

from localmem_node.config import Settings
from localmem_node.errors import ConfigError
from localmem_node.files import private_directory, read_private, write_private
from localmem_protocol.events import Event

DAYS_MAX: Final = 62
"""Days that are told apart; what is older is kept as one sum."""

SESSIONS_MAX: Final = 64
EVENTS_MAX: Final = 256
"""Sessions, and injected events of each, that are watched for being used."""

BEFORE: Final = "before"
"""The day of all that is older."""

logger = logging.getLogger(__name__)


class Tally(msgspec.Struct, omit_defaults=True):
    """Counts of one editor; `captured` by kind. `blocks` are of context, `events` those in them."""

    captured: dict[str, int] = msgspec.field(default_factory=dict)
    known: int = 0
    refused: int = 0
    unreadable: int = 0
    paused: int = 0
    blocks: int = 0
    events: int = 0
    characters: int = 0
    tokens: int = 0
    used: int = 0

    def add(self, other: Tally) -> None:
        """Count what the other has counted."""
        for kind, count in other.captured.items():
            self.captured[kind] = self.captured.get(kind, 0) + count
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def json(self) -> dict[str, Any]:
        """As a JSON object, zeros included."""
        return {name: getattr(self, name) for name in ("captured", *_NUMBERS)}


_NUMBERS: Final = tuple(name for name in Tally.__struct_fields__ if name != "captured")


class Book(msgspec.Struct):
    """Everything that is kept: tallies by day (UTC) and editor, and when each editor was last heard."""

    days: dict[str, dict[str, Tally]] = msgspec.field(default_factory=dict)
    last: dict[str, int] = msgspec.field(default_factory=dict)


_BOOK: Final = msgspec.json.Decoder(Book)


class Usage:
    """Thread-safe. Nothing here waits for a disk but `save`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._book = self._load()
        self._dirty = False
        self._run = Tally()
        self._watched: dict[str, dict[str, tuple[str, str | None]]] = {}

    @property
    def run(self) -> Tally:
        """The counts of this process."""
        return self._run

    @property
    def last(self) -> dict[str, int]:
        """When each editor was heard last, in ms since 1970."""
        return dict(self._book.last)

    def heard(self, editor: str, now_ms: int) -> None:
        """An editor has called; what waited in a spool is told late."""
        self._book.last[editor] = max(now_ms, self._book.last.get(editor, 0))
        self._dirty = True

    def count(self, editor: str, now_ms: int, tally: Tally) -> None:
        """Add counts of an editor."""
        with self._lock:
            day = datetime.fromtimestamp(now_ms / 1000, UTC).date().isoformat()
            editors = self._book.days.setdefault(day, {})
            editors.setdefault(editor, Tally()).add(tally)
            self._run.add(tally)
            self._dirty = True

    def injected(
        self,
        editor: str,
        session: str | None,
        events: Sequence[Event],
        *,
        characters: int,
        tokens: int,
        now_ms: int,
    ) -> None:
        """A model was given a block with these events."""
        counts = Tally(blocks=1, events=len(events), characters=characters, tokens=tokens)
        self.count(editor, now_ms, counts)
        if session is None:
            return
        with self._lock:
            watched = self._watched.pop(session, {})
            watched |= {event.id: (editor, event.file_path) for event in events}
            for one in list(watched)[: max(0, len(watched) - EVENTS_MAX)]:
                del watched[one]
            self._watched[session] = watched
            while len(self._watched) > SESSIONS_MAX:
                del self._watched[next(iter(self._watched))]

    def touched(self, session: str | None, events: Iterable[Event], now_ms: int) -> None:
        """A session did this: what was injected before, and is about the same files, was used."""
        if session is None or not self._watched.get(session):
            return
        events = list(events)
        with self._lock:
            watched = self._watched.get(session, {})
            used = [
                (one, editor)
                for one, (editor, path) in watched.items()
                if path is not None and any(_touches(event, path) for event in events)
            ]
            for one, _ in used:
                del watched[one]
        for _, editor in used:
            self.count(editor, now_ms, Tally(used=1))

    def asked(self, ids: Iterable[str], now_ms: int) -> None:
        """These events were asked for by their ids."""
        for one in ids:
            with self._lock:
                found = [events.pop(one) for events in self._watched.values() if one in events]
            for editor, _ in found[:1]:
                self.count(editor, now_ms, Tally(used=1))

    def report(self, since: str | None = None) -> dict[str, Any]:
        """Sums by editor and of all, for people and for JSON; `since` is a day, "YYYY-MM-DD"."""
        editors: dict[str, Tally] = {}
        total = Tally()
        with self._lock:
            first = None if BEFORE in self._book.days else min(self._book.days, default=None)
            for day, tallies in self._book.days.items():
                if since is not None and (day == BEFORE or day < since):
                    continue
                for editor, tally in tallies.items():
                    editors.setdefault(editor, Tally()).add(tally)
                    total.add(tally)
            return {
                "since": since or first,
                "editors": {
                    name: tally.json() | {"last": self._book.last.get(name)}
                    for name, tally in sorted(editors.items())
                },
                "total": total.json(),
            }

    def save(self) -> None:
        """Write what has changed."""
        with self._lock:
            if not self._dirty:
                return
            self._bound()
            self._dirty = False
            data = msgspec.json.encode(self._book)
        try:
            private_directory(self._path.parent)
            write_private(self._path, data, durable=False)
        except (OSError, ConfigError) as error:
            logger.warning("%s: %s; counts may be lost", self._path, error)

    def _bound(self) -> None:
        days = sorted(day for day in self._book.days if day != BEFORE)
        for day in days[: max(0, len(days) - DAYS_MAX)]:
            older = self._book.days.setdefault(BEFORE, {})
            for editor, tally in self._book.days.pop(day).items():
                older.setdefault(editor, Tally()).add(tally)

    def _load(self) -> Book:
        if not self._path.exists():
            return Book()
        try:
            return _BOOK.decode(read_private(self._path, "the counts"))
        except (ConfigError, msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("%s: %s; counting anew", self._path, error)
            return Book()


def usage_path(settings: Settings) -> Path:
    """Where this is kept."""
    return settings.state_dir / "usage.json"


def _touches(event: Event, path: str) -> bool:
    if event.file_path is not None:
        return event.file_path == path
    return path in event.snippet.partition("\n")[0]
