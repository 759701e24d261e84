"""A pool as one of its devices sees it: the roster so far, the keys that gives, and where to go next.

What a device does about a roster is decided here; asking a hub for entries, and keeping them, are its
caller's. A roster only ever grows. What is told is appended, entry by entry, each checked; what is told
otherwise (a fork, another pool's list) is refused, and what is known stays.

A hub that was put back to an older state has a shorter one, and is given back what it lacks: every
entry is signed by who made it, and the hub checks that, so anybody may bring it.

A device lives in the document of the newest epoch. Those of epochs before are read to their end, once,
oldest first: others may have written there what is in no newer one. Nobody writes there any more,
since the hub knows of the newer epoch. One that the hub does not show is put off (`past_epochs`).

    view.learn(entries)                  from the hub, before each connection
    view.lacking(tip)                    what to append there, and then ask again
    stop = route.next(read, now_s)       a document to connect to, or why there is none
    route.moved(session.roster_length)   after each frame, and before anything is sealed
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from localmem_protocol.chain import Roster, Tip
from localmem_protocol.entries import Entry, Role, encode_entry
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import ForkError, RemoteError
from localmem_protocol.frames import Close
from localmem_protocol.heads import Position, SignedHead, sign_head
from localmem_protocol.keys import DeviceKeys, PublicKeys
from localmem_protocol.past_epochs import PastEpochs

Place = Literal["owner", "member", "reader", "removed"]

CHANGE_TRIES: Final = 8
"""Times that a change of a roster is made anew because another owner was faster."""

ANEW: Final = frozenset({Close.BAD_TOKEN, Close.READ_ONLY, Close.ROSTER_CHANGED})
"""Refusals of a connection that another token, or another epoch, may end: ask for the roster again."""


class UnknownRosterError(Exception):
    """Nothing is known yet of a pool's roster: ask the hub first."""


class RosterView:
    """One pool's roster, as far as a device has seen it. Override `keep` to have it last."""

    def __init__(
        self, pool: str, device: str, keys: DeviceKeys, entries: Sequence[bytes] = ()
    ) -> None:
        """`entries` were verified before. Raises RosterError if they are damaged."""
        self.pool, self.device = pool, device
        self._keys = keys
        self._unsealed: tuple[int, Mapping[int, bytes]] = (0, {})
        self._entries = list(entries)
        self._roster = (
            Roster.load(entries, pool_id=pool, verified=len(entries)) if entries else None
        )

    def keep(self, entries: Sequence[bytes]) -> None:
        """All of the roster, to be kept durably."""

    @property
    def roster(self) -> Roster:
        """The roster. Raises UnknownRosterError while nothing of it is known."""
        if self._roster is None:
            raise UnknownRosterError(f"nothing is known yet of pool {self.pool}")
        return self._roster

    @property
    def length(self) -> int:
        """Entries that are known."""
        return len(self._entries)

    @property
    def entries(self) -> Sequence[bytes]:
        """The entries that are known, as they are encoded."""
        return self._entries

    @property
    def epoch(self) -> int:
        """The newest epoch that is known; 0 if none is."""
        return 0 if self._roster is None else self._roster.epoch

    @property
    def place(self) -> Place:
        """What this device is in the pool."""
        member = self.roster.members.get(self.device)
        return "removed" if member is None else member.role

    def learn(self, entries: Sequence[bytes]) -> bool:
        """Append what is new, and keep it; whether anything was. Raises RemoteError, and keeps all
        before. `entries` begin at `length`.
        """
        if not entries:
            return False
        if self._roster is None:
            self._roster = Roster.load(entries, pool_id=self.pool)
            self._keep([*entries])
            return True
        taken = 0
        try:
            for data in entries:
                self._roster.apply(data)
                taken += 1
        finally:
            if taken:
                self._keep([*self._entries, *entries[:taken]])
        return True

    def lacking(self, tip: Tip) -> Sequence[bytes]:
        """What a hub lacks whose roster goes as far as this, once what it showed was learned.

        Raises ForkError if what it has is not how the roster begins that is known here.
        """
        if not self.length or tip.length > self.length:
            return ()
        if tip.length and not self.roster.contains(tip):
            raise ForkError(
                f"the hub's roster of {tip.length} entries is not how the one begins that "
                f"this device has verified ({self.length})"
            )
        return self._entries[tip.length :]

    def epochs(self) -> dict[int, PoolKey]:
        """Every epoch that this device can read, ascending."""
        keys = self._epoch_keys()
        lasting = keys[min(keys)] if keys else None
        return {epoch: PoolKey(self.pool, epoch, keys[epoch], lasting) for epoch in sorted(keys)}

    def label(self, device: str) -> str:
        """What a device ("" for the pool) is called; empty if that does not open here."""
        try:
            return self.roster.label(device, self._epoch_keys()) or ""
        except RemoteError:
            return ""

    def role_at(self, device: str, epoch: int) -> Role | None:
        """What a device was in an epoch."""
        return self.roster.role_at(device, epoch)

    def keys_of(self, device: str) -> PublicKeys | None:
        """The keys of a device that is or was a member."""
        return self.roster.keys_of(device)

    def sign(self, at: Position) -> SignedHead:
        """This device's word for how far its chain goes."""
        return sign_head(at, self.device, self._keys)

    def _epoch_keys(self) -> Mapping[int, bytes]:
        """Unsealed once for each length of the roster: there is one for every epoch ever."""
        roster = self.roster
        length, keys = self._unsealed
        if length != roster.length:
            length = roster.length  # before: what comes meanwhile is looked at the next time
            keys = roster.epoch_keys(self._keys, self.device)
            self._unsealed = (length, keys)
        return keys

    def _keep(self, entries: list[bytes]) -> None:
        self._entries = entries  # first: the roster is as long already, should the disk be full
        self.keep(entries)


class RosterAuthorship:
    """Implements `signatures.Authorship`, with a roster that may be behind.

    A device that writes and may not, as far as is known here, may have been let in just now: `refresh`
    asks the hub, once for each. It may wait, and raises nothing.
    """

    def __init__(self, view: RosterView, refresh: Callable[[], object]) -> None:
        self.sign, self.keys_of = view.sign, view.keys_of
        self._view = view
        self._refresh = refresh
        self._asked: set[str] = set()

    def role_at(self, device: str, epoch: int) -> Role | None:
        """What a device was in an epoch."""
        role = self._view.role_at(device, epoch)
        if role in ("owner", "member") or device in self._asked:
            return role
        self._asked.add(device)
        self._refresh()
        return self._view.role_at(device, epoch)


@dataclass(frozen=True)
class Stop:
    """A document to connect to. `past`: of an epoch that is over, to be read once to its end."""

    key: PoolKey
    past: bool


class Stuck(Enum):
    """Why there is no document to connect to."""

    REMOVED = "this device is not in the pool any more"
    WITHHELD = "the hub tells of a longer roster than it shows"
    NO_KEY = "the key of the newest epoch does not open on this device"


class Route:
    """Which document of a pool comes next for a device."""

    def __init__(self, view: RosterView) -> None:
        self._view = view
        self._told = 0  # entries of the roster that the hub told of
        self._epoch = 0  # the newest one when `next` said where to go
        self._unread: tuple[int, ...] = ()  # epochs that are over
        self._past = PastEpochs()

    def next(self, read: Collection[int], now_s: float) -> Stop | Stuck:
        """Where to connect, with the roster asked for just now; `read` are epochs read to their end.

        `now_s`, here and below, is of a clock that never goes back.
        """
        view = self._view
        told, self._told = self._told, 0
        if told > view.length:
            return Stuck.WITHHELD
        if view.place == "removed":
            return Stuck.REMOVED
        epochs, current = view.epochs(), view.roster.epoch
        if current not in epochs:
            return Stuck.NO_KEY
        self._epoch = current
        self._unread = tuple(one for one in epochs if one < current and one not in read)
        due = self._past.due(self._unread, now_s)
        return Stop(epochs[current if due is None else due], past=due is not None)

    def finished(self, epoch: int) -> None:
        """An epoch that is over was read to its end."""
        self._past.finished(epoch)
        self._unread = tuple(one for one in self._unread if one != epoch)

    def put_off(self, epoch: int, problem: str, now_s: float) -> None:
        """An epoch that is over could not be read to its end: others come first."""
        self._past.failed(epoch, problem, now_s)

    def past_due_s(self, now_s: float) -> float | None:
        """Seconds until the newest epoch is to be left for one that is over; None if all are read."""
        return self._past.wait_s(self._unread, now_s)

    def unread(self) -> dict[int, str | None]:
        """Epochs that are over and not read to their end, with what failed."""
        return {epoch: self._past.problems.get(epoch) for epoch in self._unread}

    def here(self) -> PoolKey | None:
        """The newest epoch whose key opens here, also for whoever was removed; None if none does."""
        epochs = self._view.epochs()
        return epochs[max(epochs)] if epochs else None

    def moved(self, roster_length: int) -> bool:
        """Whether there is another document than `next` knew of, or more to know of the roster.

        The hub tells how long it is; something else on this device may have asked for it meanwhile.
        """
        self._told = roster_length
        return roster_length > self._view.length or self._view.epoch > self._epoch


class Change:
    """One entry that is to come at the end of a roster, whoever else changes that meanwhile.

    Ask the hub for the roster, then `propose`, have the hub append that at the length before, then tell
    it in `answered`; again, until that says so.
    """

    def __init__(self, view: RosterView, make: Callable[[Roster], Entry]) -> None:
        self._view, self._make = view, make
        self._entry: Entry | None = None
        self._tries = 0

    def propose(self) -> Entry | None:
        """The entry for the roster as it is known now; None if others were faster too often.

        Raises what `make` raises.
        """
        self._tries += 1
        self._entry = None if self._tries > CHANGE_TRIES else self._make(self._view.roster)
        return self._entry

    def answered(self, *, taken: bool) -> bool:
        """Whether the hub took the entry, at its place. Then it is known here, and this is done."""
        if taken and self._entry is not None and self._entry.index == self._view.length:
            self._view.learn([encode_entry(self._entry)])
        return taken
