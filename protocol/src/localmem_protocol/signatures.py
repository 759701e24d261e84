"""Whose word the batches of a document are: signed heads made, and those of others checked.

Whoever has a pool's key can seal a batch for any place in any array, and a hub can delete batches. So
a device signs how far its chain goes (`heads.py`): in the first batch of each segment, together with
whatever it takes out of its array, and in a batch of its own when it rests (`rest_s`). Here the heads
that came are checked against the keys in the roster and against the chain as it was opened.

- A batch counts as its device's word once a head covers it: that is the hash of the last batch, and
  from there each one that carries the hash of the one before. Until then it is *provisional*. So it
  stays, for who joins later, if what stood between it and the next head was deleted.
- What is wrong is a `Problem`. Nothing is lost by one: what opened was taken in, and stays.
- Events are missing when fewer are here than a head says are kept. As many as there are tombstones
  may be missing without a word, since a joiner cannot tell which events those stand for; the device
  signs anew when it hears of them. A hub that shows an old state to everybody, and goes on showing
  it, cannot be told from one that hears nothing new.

Without an `Authorship` (a pool whose key is in the settings has no roster) all of this is silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from localmem_protocol.entries import Role
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import HeadError, SignatureError
from localmem_protocol.heads import Position, SignedHead, contradiction, decode_compact
from localmem_protocol.keys import PublicKeys
from localmem_protocol.parcels import Parcel
from localmem_protocol.updates import Ranges

QUIET_S: Final = 30.0
"""Rest before a head when there is much to sign."""

QUIET_BATCHES: Final = 16
"""That is much: what a head costs, some 100 bytes, is then little beside them."""

REST_S: Final = 8 * 3600.0
"""Rest before a head otherwise; see `rest_s`."""

Kind = Literal["unopened", "refused", "signature", "chain", "fork", "replay", "gap"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a batch, or with an array: reported, counted, and in nobody's way.

    `clock` is the batch's, `sequence` that of the first event concerned (0 if none is known). Kinds:
    a batch that did not open; one that was refused, being no writer's; a head with a wrong signature;
    a batch that does not follow the one before it; two that cannot both be (fork); something that
    went back (replay); events that are missing (gap).
    """

    device: str
    client: int
    clock: int
    reason: str
    kind: Kind = "unopened"
    sequence: int = 0


class Authorship(Protocol):
    """Who may write, whose signature is whose, and the own one. It may wait, and raises nothing."""

    def sign(self, at: Position) -> SignedHead:
        """This device's word for a position."""
        ...

    def keys_of(self, device: str) -> PublicKeys | None:
        """The keys of a device that is or was a member."""
        ...

    def role_at(self, device: str, epoch: int) -> Role | None:
        """What a device was in an epoch; None for none of its members."""
        ...


Run = tuple[str, int, int]
"""A device, and the first and the last of contiguous sequences of its events."""


@dataclass(slots=True)
class _Batch:
    """A live batch that opened. `linked`: the one before is here, and this one carries its hash."""

    hash: bytes
    linked: bool
    content: bool  # something beside heads that hold
    runs: tuple[Run, ...]
    covered: bool = False


def rest_s(unsigned: int) -> float:
    """How long nothing is to happen before a head is made for this many batches; seconds.

    A head costs as much as an event or two. Somebody who edits twice an hour would pay for one each
    time; what waits is taken in by others all the same, and the next segment signs it anyway.
    """
    return QUIET_S if unsigned >= QUIET_BATCHES else REST_S


class Signatures:
    """What is known of the authorship of one document's live batches.

    `newest` has the last head that held, by client id; `uncovered` is how many batches are provisional.
    `mute` is set when an own head did not hold: there would be one after the other.
    """

    def __init__(self, pool: PoolKey, device: str, authorship: Authorship | None = None) -> None:
        self.newest: dict[int, SignedHead] = {}
        self.uncovered = 0
        self.mute = False
        self.authorship = authorship
        self._pool = pool
        self._device = device
        self._owners: dict[int, str] = {}
        self._batches: dict[int, dict[int, _Batch]] = {}
        self._provisional: dict[str, int] = {}
        self._suspects: set[str] = set()  # devices of which something came or went

    @property
    def provisional(self) -> dict[str, int]:
        """How many live batches of each device no head covers; without those of which all are."""
        return {device: count for device, count in self._provisional.items() if count}

    def anew(self) -> Signatures:
        """For another copy of the document: what the hub showed once, it has to show again."""
        other = Signatures(self._pool, self._device, self.authorship)
        others = {c: device for c, device in self._owners.items() if device != self._device}
        other._owners = others
        other._suspects = set(others.values())
        other.newest = {client: one for client, one in self.newest.items() if client in others}
        return other

    @property
    def signs(self) -> bool:
        """Whether this device makes heads."""
        if self.authorship is None or self.mute:
            return False
        return self.authorship.keys_of(self._device) is not None

    def may_write(self, device: str) -> bool:
        """Whether what is in a device's array is to be taken in."""
        if self.authorship is None or device == self._device:
            return True
        return self.authorship.role_at(device, self._pool.epoch) in ("owner", "member")

    def note(
        self, device: str, client: int, clock: int, link: tuple[bytes, bytes], parcel: Parcel
    ) -> list[Problem]:
        """A batch that opened; those of one client come in order. `link`: its hash, the one before's."""
        if self.authorship is None:
            return []
        own_hash, previous = link
        self._owners[client] = device
        batches = self._batches.setdefault(client, {})
        before = batches.get(clock - 1)
        linked = before is not None and before.hash == previous
        first = next(iter(_runs(parcel)), ("", 0, 0))[1]

        def problem(kind: Kind, reason: str) -> Problem:
            return Problem(device, client, clock, reason, kind, first)

        problems = []
        if before is not None and not linked:
            problems.append(problem("chain", "it does not follow the batch before it"))
        known = self.newest.get(client)
        if known and known.at.clock == clock + 1 and known.at.head != own_hash:
            problems.append(problem("fork", "another batch than the one that was signed there"))
        sound = True
        for data in parcel.heads:
            signed = self._verified(device, client, clock, previous, data)
            if isinstance(signed, str):
                problems.append(problem("signature", signed))
                sound = False
                continue
            problems += self._compare(device, signed)
            if linked:
                self._cover(client, clock - 1)
        content = bool(parcel.events or parcel.tombstones or parcel.references) or not sound
        batches[clock] = _Batch(own_hash, linked, content, tuple(_runs(parcel)))
        self._count(device, batches[clock], 1)
        return problems

    def drop(self, ranges: Ranges) -> None:
        """Batches that were deleted; unknown ones are ignored."""
        for client, listed in ranges.items():
            batches = self._batches.get(client, {})
            for first, length in listed:
                clocks = range(first, first + length)
                # A range may be far longer than what is live, or the other way round.
                for clock in (
                    clocks if length < len(batches) else [c for c in batches if c in clocks]
                ):
                    batch = batches.pop(clock, None)
                    if batch is not None:
                        self._count(self._owners[client], batch, -1)
            if client in self._owners:
                self._suspects.add(self._owners[client])

    def missing(self, reached: Mapping[int, int], tombstones: int) -> list[Problem]:
        """What is not here though it was signed. Ask when all is here, and nothing more is coming.

        For an update of somebody who was away may come in pieces, heads before what they speak of.

        `reached` is how far each client id goes, `tombstones` how many there are.
        """
        problems = []
        for client, signed in self.newest.items():
            at, shown = signed.at, reached.get(client, 0)
            if shown < at.clock:
                reason = f"the hub shows {shown} batches, and had more"
                device = self._owners[client]
                problems.append(Problem(device, client, at.clock, reason, "replay", at.sequence))
        for device in sorted(self._suspects):
            problems += self._missing_of(device, tombstones)
        self._suspects.clear()
        return problems

    def unsigned(self, client: int) -> int:
        """Own batches, of this client id, that wait for a head; 0 if there is nothing to sign.

        Also if something was taken out of the own array since: then it is at least 1.
        """
        if not self.signs:
            return 0
        newest = self.newest.get(client)
        after = newest.at.clock if newest else 0
        batches = self._batches.get(client, {})
        count = sum(batch.content for clock, batch in batches.items() if clock >= after)
        if count or newest is None:
            return count
        at = newest.at
        return int((at.floor, at.sequence, at.holes) != self._kept(client))

    def forgot(self, client: int) -> bool:
        """Whether the last own head was deleted, so that nothing in the document says what it said."""
        newest = self.newest.get(client)
        return newest is not None and newest.at.clock not in self._batches.get(client, {})

    def head(self, client: int, clock: int, previous: bytes) -> bytes | None:
        """The own head for the batch at `clock`, which covers those before; None if none is made."""
        if self.authorship is None or not self.signs or not clock:
            return None
        pool = self._pool
        at = Position(pool.pool, pool.epoch, client, clock, previous, *self._kept(client))
        return self.authorship.sign(at).compact()

    def _verified(
        self, device: str, client: int, clock: int, previous: bytes, data: bytes
    ) -> SignedHead | str:
        """A head in its place, or why it is none."""
        assert self.authorship is not None
        keys = self.authorship.keys_of(device)
        if keys is None:
            return "a signed head of a device whose keys are unknown"
        try:
            signed = decode_compact(
                data, self._pool.pool, self._pool.epoch, client, clock, previous
            )
            signed.verify(device, keys)
        except HeadError as error:
            return f"a signed head that does not parse: {error}"
        except SignatureError:
            return "a signed head that this device did not sign for this place"
        return signed

    def _compare(self, device: str, signed: SignedHead) -> list[Problem]:
        """A head that holds, beside the last one."""
        at = signed.at
        known = self.newest.get(at.client)
        reason = contradiction(known, signed) if known else None
        if known is None or known.at.clock < at.clock:
            self.newest[at.client] = signed
        self._suspects.add(device)
        if known is None or reason is None:
            return []
        kind: Kind = "fork" if known.at.clock == at.clock else "replay"
        return [Problem(device, at.client, at.clock, reason, kind, at.sequence)]

    def _cover(self, client: int, clock: int) -> None:
        batches, device = self._batches[client], self._owners[client]
        batch = batches.get(clock)
        while batch is not None and not batch.covered:
            self._count(device, batch, -1)
            batch.covered = True
            clock -= 1
            batch = batches.get(clock) if batch.linked else None

    def _count(self, device: str, batch: _Batch, by: int) -> None:
        if batch.content and not batch.covered:
            self._provisional[device] = self._provisional.get(device, 0) + by
            self.uncovered += by

    def _kept(self, client: int) -> tuple[int, int, int]:
        """Floor, newest sequence and holes of the own array. The first two never go back."""
        mine = [one for one in self._owners if self._owners[one] == self._device]
        spans = _merged(self._runs_of(self._device, mine))
        newest = self.newest.get(client)
        sequence = max([newest.at.sequence if newest else 0, *(last for _, last in spans)])
        spans = list(_within(spans, newest.at.floor if newest else 1, sequence))
        floor = spans[0][0] if spans else sequence + 1
        return floor, sequence, sequence + 1 - floor - _length(spans)

    def _missing_of(self, device: str, tombstones: int) -> list[Problem]:
        """Events that a device's newest head says are kept, and that are in no array here.

        Of several client ids the newest speaks: what it evicted of the others they cannot take back.
        """
        heads = [one for c, one in self.newest.items() if self._owners.get(c) == device]
        if not heads:
            return []
        at = max(heads, key=lambda one: one.at.client).at
        floor = max(one.at.floor for one in heads)
        here = list(_within(_merged(self._runs_of(device, self._owners)), floor, at.sequence))
        lacking = at.sequence + 1 - floor - at.holes - _length(here) - tombstones
        if lacking <= 0:
            return []
        first = floor if not here or here[0][0] > floor else here[0][1] + 1
        reason = f"{lacking} events up to sequence {at.sequence} are withheld or lost"
        return [Problem(device, at.client, at.clock, reason, "gap", first)]

    def _runs_of(self, device: str, clients: Iterable[int]) -> Iterator[tuple[int, int]]:
        for client in clients:
            for batch in self._batches.get(client, {}).values():
                yield from (run[1:] for run in batch.runs if run[0] == device)


def with_head(parcel: Parcel, head: bytes | None) -> Parcel:
    """The same with a head, if there is one."""
    return parcel if head is None else replace(parcel, heads=(*parcel.heads, head))


def _runs(parcel: Parcel) -> Iterator[Run]:
    """The sequences of what is in a parcel, by device."""
    found = {(event.device, event.sequence) for event in parcel.events}
    rows = sorted(found | {(one.device, one.sequence) for one in parcel.references})
    start = 0
    for place, (device, sequence) in enumerate(rows, start=1):
        if place == len(rows) or rows[place] != (device, sequence + 1):
            yield device, rows[start][1], sequence
            start = place


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans (first and last, both included) as few as can be, ascending."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def _within(
    spans: Iterable[tuple[int, int]], floor: int, ceiling: int
) -> Iterator[tuple[int, int]]:
    for first, last in spans:
        if last >= floor and first <= ceiling:
            yield max(first, floor), min(last, ceiling)


def _length(spans: Iterable[tuple[int, int]]) -> int:
    return sum(last + 1 - first for first, last in spans)
