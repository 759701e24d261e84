"""The audit log: who was let in and who was not, what was made, taken away and changed. One JSON object
per line, by the standard library's logger `localmem_hub.audit`.

    {"time": "2026-03-01T12:00:00.000Z", "event": "admitted", "address": …, "pool": …, "device": …}

Every line has `time` and `event`, and of the other fields those that it has a value for. No line holds a
secret or anything that devices say: tokens are named by their ids, invitations by the beginning of what
is kept of them, and a name that was asked for is cut, and left out if it looks like a secret.

| event | is noted when |
| --- | --- |
| `admitted` | somebody was let into a room; for single requests once an hour |
| `refused` | somebody was not: code and reason |
| `cut_off` | somebody who was in lost the right to: code and reason |
| `enrolled` | a token became its first device's; a roster took a device in |
| `removed`, `role_changed`, `rotated` | a roster says so |
| `proved`, `recovered` | a device, or the holder of a recovery phrase, proved to hold a key |
| `pool_created`, `pool_removed`, `epoch_dropped` | that happened |
| `token_created`, `token_revoked`, `invitation_created`, `invitation_revoked` | an operator did that |
| `restored` | an operator put the database back: how many tokens and invitations are void since |
| `limited` | somebody is over a rate or quota |
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import queue
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Final

from localmem_hub.errors import ConfigError
from localmem_hub.limits import ADDRESSES_MAX
from localmem_hub.rate_limits import Rate, RateLimit, address_of
from localmem_protocol.seams import Clock

log: Final = logging.getLogger("localmem_hub.audit")

OFF: Final = "off"
STDERR: Final = "stderr"
ADMITTED_AGAIN_SECONDS: Final = 3600.0
"""How often the same device that comes by single requests is noted: it may come every second."""

REFUSING: Final = Rate(burst=60, seconds=1.0)
"""Refusals that are noted per address: a stranger must not fill the disk. What is left out is counted in
the next line."""

TEXT_CHARS_MAX: Final = 200
_SECRET: Final = re.compile(r"lm[a-z]_[0-9A-Za-z_-]+", re.ASCII)

Value = str | int | None


class Audit:
    """What one process notes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refusing = RateLimit(REFUSING, clock)
        self._left_out = 0
        self._admitted: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def note(self, event: str, **fields: Value) -> None:
        """Write a line; values that are None or empty are left out."""
        if log.isEnabledFor(logging.INFO):
            log.info("%s", line(event, self._clock.now_ms(), **fields))

    def admitted(self, address: str, *, transport: str, **fields: str) -> None:
        """Somebody was let in."""
        if transport != "websocket":
            key, now_s = (address, *fields.values()), self._clock.monotonic_s()
            before_s = self._admitted.pop(key, None)
            again = before_s is None or now_s - before_s >= ADMITTED_AGAIN_SECONDS
            self._admitted[key] = now_s if before_s is None or again else before_s
            while len(self._admitted) > ADDRESSES_MAX:
                self._admitted.popitem(last=False)
            if not again:
                return
        self.note("admitted", address=address, transport=transport, **fields)

    def refused(self, address: str, **fields: Value) -> None:
        """Somebody was not."""
        self._bounded("refused", address, fields)

    def limited(self, address: str, **fields: Value) -> None:
        """Somebody has to wait."""
        self._bounded("limited", address, fields)

    def _bounded(self, event: str, address: str, fields: dict[str, Value]) -> None:
        if self._refusing.wait_s(address_of(address)):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        self.note(event, address=address, **fields, left_out=left_out or None)


def line(event: str, now_ms: int, **fields: Value) -> str:
    """One line of the log, without its end."""
    time = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
    found: dict[str, Value] = {"time": time.replace("+00:00", "Z"), "event": event}
    for name, value in fields.items():
        if value is not None and value != "":
            found[name] = _shown(value) if isinstance(value, str) else value
    return json.dumps(found)


def _shown(text: str) -> str:
    return _SECRET.sub("(a secret)", text)[:TEXT_CHARS_MAX]


def open_audit(where: str) -> Callable[[], None]:
    """Write the log to stderr, to a file, or nowhere, from a thread of its own; how to end that.

    The file is its owner's alone, appended to by every process that names it, and opened again when it
    was moved away (logrotate). Raises ConfigError.
    """
    target: logging.Handler = logging.NullHandler()
    if where != OFF:
        target = logging.StreamHandler(sys.stderr) if where == STDERR else _to_file(where)
    target.setFormatter(logging.Formatter("%(message)s"))
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(waiting)
    listener = logging.handlers.QueueListener(waiting, target)
    before = log.level, log.propagate
    log.setLevel(logging.CRITICAL if where == OFF else logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    listener.start()

    def end() -> None:
        log.removeHandler(handler)
        listener.stop()
        target.close()
        log.level, log.propagate = before

    return end


class _PrivateFile(logging.handlers.WatchedFileHandler):
    """A file of 0600 that another process may move away."""

    def _open(self) -> TextIOWrapper:
        made = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return open(made, "a", encoding="utf-8")


def _to_file(where: str) -> _PrivateFile:
    try:
        return _PrivateFile(where)
    except OSError as error:
        raise ConfigError(f"audit: cannot write {where}: {error.strerror}") from None
