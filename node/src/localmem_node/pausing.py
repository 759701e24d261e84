"""What the user wants unseen: since when, and of what (everything, a project, a session).

A pause is a span of time that stays known after it has ended, so that what was done in it does not
come in later, from a transcript. One small file in the state folder (0600). Whoever holds a `Pauses`
sees at once what another has written. A file that is not understood counts as a pause of everything:
whoever asked for one relies on it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

import msgspec

from localmem_node.config import Settings
from localmem_node.errors import ConfigError, QueryError
from localmem_node.files import private_directory, read_private, write_private

SPANS_MAX: Final = 128
"""Spans that are remembered; of more, those that ended longest ago are given up."""

logger = logging.getLogger(__name__)

Stamp = tuple[int, int, int]


class Span(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A pause from `since` to `until`, in ms since 1970; None if it lasts.

    Of one project (its ids, as it was known then), of one session, or else of everything.
    """

    since: int
    until: int | None = None
    projects: tuple[str, ...] = ()
    session: str | None = None

    def covers(self, projects: Collection[str], session: str | None, at_ms: int) -> bool:
        """Whether something that happened then belongs to it."""
        if at_ms < self.since or (self.until is not None and at_ms >= self.until):
            return False
        if self.session is not None:
            return session == self.session
        return not self.projects or not set(self.projects).isdisjoint(projects)

    def is_of(self, projects: Sequence[str], session: str | None) -> bool:
        """Whether it is a pause of exactly this."""
        if session is not None or self.session is not None:
            return session == self.session
        if not projects or not self.projects:
            return not projects and not self.projects
        return not set(self.projects).isdisjoint(projects)


_EVERYTHING: Final = (Span(0),)
_SPANS: Final = msgspec.json.Decoder(list[Span])


class Pauses:
    """Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._stamp: Stamp | None = None
        self._spans: tuple[Span, ...] = ()
        self.problem: str | None = None

    def covers(self, projects: Collection[str], session: str | None, at_ms: int) -> bool:
        """Whether what happened at this time in this project and session is not to be seen.

        `projects` are all ids of one project. Costs one stat as long as nothing is changed.
        """
        return any(span.covers(projects, session, at_ms) for span in self._current())

    def pause(self, projects: Sequence[str], session: str | None, now_ms: int) -> None:
        """From now on nothing of this; of everything without project and session. Raises OSError."""
        with self._lock:
            spans = [*self._read()]
            if not any(span.until is None and span.is_of(projects, session) for span in spans):
                spans.append(Span(now_ms, None, tuple(projects), session))
                self._write(spans)

    def resume(self, projects: Sequence[str], session: str | None, now_ms: int) -> int:
        """End the pause of this; without project and session every one. How many ended.

        Raises OSError.
        """
        with self._lock:
            before = self._read()
            if self.problem is not None:
                self._write(())
                return 1
            everything = not projects and session is None
            after = [
                msgspec.structs.replace(span, until=max(now_ms, span.since))
                if span.until is None and (everything or span.is_of(projects, session))
                else span
                for span in before
            ]
            ended = sum(one != other for one, other in zip(before, after, strict=True))
            if ended:
                self._write(after)
            return ended

    def status(self) -> dict[str, Any]:
        """What is paused now, for people and for JSON."""
        lasting = [span for span in self._current() if span.until is None]
        return {
            "everything": any(not span.projects and span.session is None for span in lasting),
            "projects": [span.projects[0] for span in lasting if span.projects],
            "sessions": [span.session for span in lasting if span.session is not None],
            "problem": self.problem,
        }

    def _current(self) -> tuple[Span, ...]:
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            with self._lock:
                self._read()
        return self._spans

    def _read(self) -> tuple[Span, ...]:
        stamp = _stamp(self._path)
        if stamp is None:
            self._spans, self.problem = (), None
        else:
            try:
                self._spans = tuple(_SPANS.decode(read_private(self._path, "what is paused")))
                self.problem = None
            except (ConfigError, msgspec.DecodeError, UnicodeDecodeError) as error:
                self.problem = f"{self._path}: {error}; all is paused until: localmem resume"
                logger.error("%s", self.problem)
                self._spans = _EVERYTHING
        self._stamp = stamp
        return self._spans

    def _write(self, spans: Iterable[Span]) -> None:
        spans = list(spans)
        for ended in sorted((span for span in spans if span.until), key=_end):
            if len(spans) <= SPANS_MAX:
                break
            spans.remove(ended)
        if len(spans) > SPANS_MAX:
            raise QueryError("pause", f"{SPANS_MAX} pauses last already; end some: localmem resume")
        private_directory(self._path.parent)
        write_private(self._path, msgspec.json.encode(spans))
        self._read()


def pauses_path(settings: Settings) -> Path:
    """Where this is kept."""
    return settings.state_dir / "paused.json"


def _end(span: Span) -> int:
    return span.until or 0


def _stamp(path: Path) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
