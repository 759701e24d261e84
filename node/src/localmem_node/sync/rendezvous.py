"""Two devices find each other in a mailbox at the hub, and pair (`localmem_protocol.pairing`).

A process of a minute, with a person at each end, so it runs in a thread and tells how far it is. The
host's slots are even, the joiner's odd; each side writes its messages in order, and reads the other's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from threading import Condition, Thread
from typing import Any, Final, Literal

from localmem_node.errors import HubRefused, NodeError, QueryError, SyncError
from localmem_node.sync.hub_client import HubClient
from localmem_protocol.errors import PairingError, ProtocolError
from localmem_protocol.pairing import Host, Invitation, Joiner, Peer
from localmem_protocol.seams import Clock

_IN_HEADER: Final = re.compile(r"[!-~]{1,1024}", re.ASCII)

logger = logging.getLogger(__name__)

State = Literal["waiting", "introduced", "done", "failed"]
POLL_S: Final = 20
"""How long one request waits at the hub; proxies give up after 30."""

PAUSE_S: Final = 1.0
"""Between two questions at the least: a hub may answer "nothing yet" at once."""

PATIENCE_S: Final = 600.0
"""How long a person may take: as long as the hub keeps a mailbox."""


NOT_AGREED: Final = "not agreed to on this device; nothing was changed"


class Mailbox:
    """One party's view of a mailbox: what it says next, and hears next."""

    def __init__(self, hub: HubClient, number: int, secret: str, *, host: bool) -> None:
        self._hub = hub
        self.number = number
        self._secret = secret
        self._mine, self._theirs = (0, 1) if host else (1, 0)

    @classmethod
    def open(cls, hub: HubClient) -> Mailbox:
        """A new one. Raises SyncError, HubRefused."""
        fields = hub.call("POST", "/v1/mailboxes", b"").fields()
        return cls(hub, _whole(fields, "number"), _text(fields, "secret"), host=True)

    @classmethod
    def join(cls, hub: HubClient, number: int) -> Mailbox:
        """The one whose number somebody typed. Raises SyncError, PairingError."""
        try:
            fields = hub.call("POST", f"/v1/mailboxes/{number}/join", b"").fields()
        except HubRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                raise PairingError(
                    "nobody waits at this hub under that code: it was used, it is over, or it is mistyped"
                ) from None
            raise
        return cls(hub, number, _text(fields, "secret"), host=False)

    def say(self, data: bytes) -> None:
        """Leave the next message."""
        self._hub.call("PUT", self._path(self._mine), data, bearer=self._secret)
        self._mine += 2

    def hear(self) -> bytes | None:
        """The other's next message; None if none came within POLL_S."""
        path = f"{self._path(self._theirs)}?wait={POLL_S}"
        answer = self._hub.call("GET", path, bearer=self._secret, wait_s=POLL_S)
        if answer.status == HTTPStatus.NO_CONTENT:
            return None
        self._theirs += 2
        return answer.body

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(SyncError):  # it ends by itself
            self._hub.call("DELETE", f"/v1/mailboxes/{self.number}", bearer=self._secret)

    def _path(self, slot: int) -> str:
        return f"/v1/mailboxes/{self.number}/{slot}"


@dataclass(frozen=True)
class Progress:
    """How far a pairing is. `problem` says why it failed."""

    state: State
    peer: Peer | None = None
    problem: str = ""

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        peer = self.peer and {
            "device": self.peer.device,
            "label": self.peer.label,
            "fingerprint": self.peer.keys.fingerprint(),
        }
        return {"state": self.state, "peer": peer, "problem": self.problem or None}


class Rendezvous:
    """One pairing in a thread of its own. Thread-safe."""

    def __init__(self, side: Host | Joiner, mailbox: Mailbox, clock: Clock) -> None:
        self._side, self._mailbox, self._clock = side, mailbox, clock
        self._changed = Condition()
        self._watchers: set[Callable[[], object]] = set()  # event loops that wait
        self._progress = Progress("waiting")
        self._agreed = False
        self._ended = False
        self._thread = Thread(target=self._run, name="localmem-pairing", daemon=True)

    @property
    def fingerprint(self) -> str:
        """This device's, to be compared on the other screen."""
        return self._side.fingerprint

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._progress

    def start(self, work: Callable[[Rendezvous], None]) -> None:
        """Begin; `work` runs in the thread: `host` or `joiner` of this module, bound."""
        self._work = work
        self._thread.start()

    async def until_other_than(self, known: State, wait_s: float) -> Progress:
        """How far it is as soon as that is another state than `known`, or time is up.

        Holds no thread: as many may wait as there are connections.
        """
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(news.set)

        with self._changed:
            self._watchers.add(tell)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while self._progress.state == known:
                        await news.wait()
                        news.clear()
        finally:
            with self._changed:
                self._watchers.discard(tell)
        return self._progress

    def agree(self, agreed: bool) -> None:
        """What the person says who compared the fingerprints. Raises QueryError if there are none yet."""
        if not agreed:
            self.cancel()
            return
        with self._changed:
            if self._progress.state != "introduced":
                raise QueryError("agreed", "there is nobody yet to agree to")
            self._agreed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """End it without a result, unless it is done."""
        with self._changed:
            self._ended = True
            if self._progress.state in ("waiting", "introduced") and not self._agreed:
                self._progress = Progress("failed", self._progress.peer, NOT_AGREED)
            self._tell()

    def introduced(self, peer: Peer) -> None:
        """The other side is known; wait for the person to agree. Raises PairingError."""
        with self._changed:
            if not self._ended:
                self._set(Progress("introduced", peer))
                self._changed.wait_for(lambda: self._agreed or self._ended, PATIENCE_S)
            if not self._agreed:
                raise PairingError(NOT_AGREED)

    def speak(self) -> None:
        """Say everything that the side has to say."""
        while (data := self._side.send()) is not None:
            self._mailbox.say(data)

    def listen(self) -> None:
        """Take the other's next message. Raises PairingError, SyncError."""
        deadline_s = self._clock.monotonic_s() + PATIENCE_S
        while self._clock.monotonic_s() < deadline_s:
            if self._ended:
                raise PairingError(NOT_AGREED)
            data = self._mailbox.hear()
            if data is not None:
                self._side.receive(data)
                return
            with self._changed:
                self._changed.wait_for(lambda: self._ended, PAUSE_S)
        raise PairingError("nobody came")

    def _run(self) -> None:
        try:
            self._work(self)
            self._set(Progress("done", self._progress.peer))
        except (NodeError, ProtocolError) as error:
            self._fail(str(error))
        except Exception as error:
            logger.exception("a pairing failed")
            self._fail(f"unexpected: {type(error).__name__}")
        finally:
            if self._progress.state == "failed":
                self._mailbox.close()

    def _fail(self, problem: str) -> None:
        self._side.abort()
        with contextlib.suppress(SyncError):
            self.speak()  # the other side need not wait
        self._set(Progress("failed", self._progress.peer, problem))

    def _set(self, progress: Progress) -> None:
        with self._changed:
            self._progress = progress
            self._tell()

    def _tell(self) -> None:
        """Wake everybody who waits, with the lock held."""
        self._changed.notify_all()
        for tell in self._watchers:
            tell()


def host(meeting: Rendezvous, side: Host, admit: Callable[[Peer], Invitation]) -> None:
    """The side that lets somebody in; `admit` is called once its person agrees."""
    while side.joiner is None:
        meeting.listen()
        meeting.speak()
    meeting.introduced(side.joiner)
    side.invite(admit(side.joiner))
    meeting.speak()


def joiner(meeting: Rendezvous, side: Joiner, enter: Callable[[Invitation], None]) -> None:
    """The side that is let in; `enter` is called with the invitation."""
    meeting.speak()
    meeting.listen()
    if side.host is None:
        raise PairingError("the other side did not say who it is")
    meeting.introduced(side.host)
    meeting.speak()
    meeting.listen()
    if side.invitation is None:
        raise PairingError("the other side invited nobody")
    enter(side.invitation)


def _whole(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SyncError(f"the hub's answer has no {name}")
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not _IN_HEADER.fullmatch(value):
        raise SyncError(f"the hub's answer has no {name}")
    return value
