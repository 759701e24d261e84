"""Who would see a batch arrive: what a hub knows of it, and what it tells.

A device sends at once what somebody would see, and gathers it otherwise (`batching`). So a hub tells
each device whether others are there (the notice "listening": how many), after its welcome and when
that changes between none and some; and passes on that a user of one waits for news ("waiting").

A device that is idle pays for these notices, so they are few. That somebody is there is told at once;
that nobody is, only when it has been so for a while, which becomes longer each time: then a peer that
comes and goes all day costs less than a kilobyte, and a device that is told late sends smaller batches
than it need, no more. Of those who wait, only so many in a time are passed on.

Requests are no connections: a device that makes them counts for a while after each, and while one
waits at the hub. It is told in a header of every answer, so that nobody has to remember what it knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from localmem_protocol.frames import Notice
from localmem_protocol.limits import CLIENTS_MAX

LISTENING: Final = "listening"
"""The notice of how many other devices are there; a device acts on whether it is 0."""

WAITING: Final = "waiting"
"""The notice that somebody waits for news: for so many seconds, what is new is sent at once."""

WAITING_S: Final = 30
"""For so long, at most, a device that was told so sends everything at once."""

REQUEST_S: Final = 30.0
"""For so long after a request a device is taken to be there: it asks once a second while it works."""

ALONE_FIRST_S: Final = 60.0
"""Nobody else is there for so long before a device is told for the first time; then twice as long."""

ALONE_MAX_S: Final = 3600.0
"""The longest of these: some 24 times a day, each time with a notice that somebody is there again."""

WAITING_BURST: Final = 10
"""How many notices that somebody waits are passed on at once."""

WAITING_EVERY_S: Final = 600.0
"""Then one in this time: 154 in a day at most. Whoever waits beyond that sees what is new after the
pause that everybody makes who has a listener."""

_VALUE: Final = re.compile(r"([a-z]{1,64})=([0-9]{1,9})(?:[ ]|$)", re.ASCII)


@dataclass(slots=True)
class _Told:
    """What a connection was told: whether somebody is there. `alone_s`: since when nobody is."""

    device: str
    somebody: bool
    alone_s: float | None = None
    patience_s: float = ALONE_FIRST_S


class Presence:
    """Who is in one room. Reads no clock; moments are those of `Clock.monotonic_s`.

    `due_s` is when `news` is to be called again at the latest, None if that is up to others; `changed`
    whether it is to be called now.
    """

    __slots__ = (
        "_asking",
        "_burst",
        "_spent_s",
        "_staying",
        "_told",
        "_waiting",
        "_wanted",
        "changed",
        "due_s",
    )

    def __init__(self) -> None:
        self.due_s: float | None = None
        self.changed = False
        self._staying: dict[int, str] = {}  # connection -> device
        self._told: dict[int, _Told] = {}  # connections that take notices
        self._asking: dict[str, float] = {}  # device -> until when its requests count
        self._waiting: dict[str, float] = {}  # device -> until when its user waits
        self._wanted: dict[str, None] = {}  # devices whose users wait, not passed on yet
        self._burst, self._spent_s = float(WAITING_BURST), 0.0

    def __bool__(self) -> bool:
        return bool(self._staying or self._asking or self._waiting)

    def welcome(self, connection: int, device: str, *, notices: bool) -> Notice | None:
        """A connection is welcomed: what to tell it then, if it takes `notices`."""
        self.changed = True
        self._staying[connection] = device
        self._told.pop(connection, None)
        if not notices:
            return None
        others = self._others(device, self._devices())
        self._told[connection] = _Told(device, others > 0)
        return Notice(LISTENING, others)

    def leave(self, connection: int) -> None:
        """A connection is gone."""
        self.changed = self._staying.pop(connection, None) is not None or self.changed
        self._told.pop(connection, None)

    def request(self, device: str, now_s: float, wait_s: float = 0.0) -> None:
        """A device asks by a request, which waits here so long."""
        self.changed |= device not in self._asking
        if device in self._asking or len(self._asking) < CLIENTS_MAX:
            until_s = now_s + wait_s + REQUEST_S
            self._asking[device] = max(until_s, self._asking.get(device, until_s))

    def wait(self, device: str) -> None:
        """A device says that its user waits."""
        self.changed = True
        if len(self._wanted) < CLIENTS_MAX:
            self._wanted[device] = None

    def news(self, now_s: float) -> list[tuple[int, Notice]]:
        """What to tell now, by connection."""
        for known in (self._asking, self._waiting):
            for device in [one for one, until_s in known.items() if until_s <= now_s]:
                del known[device]
        self.changed, devices = False, self._devices()
        told = [
            (one, Notice(LISTENING, _turn(it, self._others(it.device, devices))))
            for one, it in self._told.items()
            if self._turns(it, self._others(it.device, devices), now_s)
        ]
        for device in sorted(self._wanted):
            if self._others(device, devices) and self._may_pass(now_s):
                self._waiting[device] = now_s + WAITING_S
                notice = Notice(WAITING, WAITING_S)
                told += [(one, notice) for one, it in self._told.items() if it.device != device]
        self._wanted.clear()
        moments = [
            it.alone_s + it.patience_s for it in self._told.values() if it.alone_s is not None
        ]
        self.due_s = min([*moments, *self._asking.values(), *self._waiting.values()], default=None)
        return told

    def told(self, device: str, now_s: float) -> list[Notice]:
        """What a device is to be told that asks by a request."""
        left = [until_s - now_s for one, until_s in self._waiting.items() if one != device]
        waiting = [Notice(WAITING, max(1, int(max(left))))] if left and max(left) > 0 else []
        return [Notice(LISTENING, self._others(device, self._devices())), *waiting]

    def _devices(self) -> set[str]:
        return {*self._staying.values(), *self._asking}

    def _others(self, device: str, devices: set[str]) -> int:
        return len(devices) - (device in devices)

    def _turns(self, told: _Told, others: int, now_s: float) -> bool:
        """Whether something else is to be said than before."""
        if others:
            told.alone_s = None
            return not told.somebody
        if told.somebody and told.alone_s is None:
            told.alone_s = now_s
        return told.alone_s is not None and now_s >= told.alone_s + told.patience_s

    def _may_pass(self, now_s: float) -> bool:
        regained = (now_s - self._spent_s) / WAITING_EVERY_S
        self._burst = min(self._burst + max(0.0, regained), float(WAITING_BURST))
        self._spent_s = now_s
        if self._burst < 1:
            return False
        self._burst -= 1
        return True


def _turn(told: _Told, others: int) -> int:
    """Note that it is said now how many others are there."""
    told.somebody, told.alone_s = others > 0, None
    if not others:
        told.patience_s = min(2 * told.patience_s, ALONE_MAX_S)
    return others


def quickens(before: Iterable[Notice], now: Iterable[Notice]) -> bool:
    """Whether a device that was told this before has a reason to send sooner."""
    known = {notice.kind for notice in before if notice.value}
    return any(notice.kind not in known for notice in now if notice.value)


def notices_text(notices: Iterable[Notice]) -> str:
    """Notices as the value of a header, such as "listening=2 waiting=30"."""
    return " ".join(f"{notice.kind}={notice.value}" for notice in notices)


def read_notices(text: str) -> list[Notice]:
    """The notices of such a header; what is none means nothing."""
    return [Notice(kind, int(value)) for kind, value in _VALUE.findall(text[:1024])]
