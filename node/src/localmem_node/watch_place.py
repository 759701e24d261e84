"""Where somebody who watches the daemon stands, from one connection to the next. Without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from localmem_node.errors import DaemonError
from localmem_node.problems import raise_problem
from localmem_node.results import parse_event
from localmem_node.watch import HEARTBEAT_S, parse_watch
from localmem_protocol.events import Event

PATH: Final = "/v1/watch"

SILENCE_S: Final = 3.0 * HEARTBEAT_S
"""Who hears nothing for so long has lost the daemon."""

PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Before it is looked for again; the last one from then on."""

_PASSING: Final = frozenset({"stopping", "too_slow", "too_many_watches"})
"""Reasons to come again."""


class Interrupted(Exception):
    """The connection is of no more use: begin another one."""


class Place:
    """One watch. `complete` says whether nothing was left out for sure."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        """`fields` are those of the call. Raises QueryError."""
        parse_watch(fields)
        self._fields = dict(fields)
        self.begun = False
        self.complete = True

    def body(self) -> bytes:
        """What to ask for now."""
        if self.begun and self._fields.get("after") is None:
            self.complete = False  # nothing was there before, so nothing says where to go on
        return msgspec.json.encode(self._fields)

    def heard(self, line: bytes) -> Event | None:
        """The event in a line, or None. Raises Interrupted, and what the daemon reports."""
        if not line.endswith(b"\n"):
            raise Interrupted
        try:
            told = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise DaemonError("the daemon's answer is not understood; run: localmem down") from None
        if "event" in told:
            event = parse_event(told["event"])
            self._fields["after"] = event.id
            return event
        if "watching" in told:
            self.begun = True
            self.complete = self.complete and told["watching"]["complete"] is True
            self._fields["after"] = told["watching"]["after"]
        if "error" in told:
            self.refused(told)
        return None

    def refused(self, answer: Mapping[str, Any]) -> None:
        """Raises Interrupted, or the error that the daemon reports."""
        if self.begun and answer.get("error", {}).get("code") in _PASSING:
            raise Interrupted
        raise_problem(answer)


def pause_s(attempt: int) -> float:
    """How long to wait before the attempt with this number, from 0."""
    return PAUSES_S[min(attempt, len(PAUSES_S) - 1)]
