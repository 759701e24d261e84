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
  signs anew when it hears of them. What was here in the array of another device, which had taken it over
  from one in which something was forgotten, may go there without a word: nobody signs that it stays. A hub that shows an old state to everybody, and goes on showing
  it, cannot be told from one that hears nothing new.
- What a hub shows is held against what it showed before, in this run or an earlier one (`kept`), and
  against what it shows to others (`views.py`).

Without an `Authorship` (a pool whose key is in the settings has no roster) all of this is silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from localmem_protocol.entries import Role
from localmem_protocol.envelope import NO_HASH, PoolKey
from localmem_protocol.errors import HeadError, SignatureError
from localmem_protocol.heads import (
    Position,
    SignedHead,
    contradiction,
    decode_compact,
    decode_head,
)
from localmem_protocol.keys import PublicKeys
from localmem_protocol.limits import CLIENTS_MAX
from localmem_protocol.parcels import Parcel
from localmem_protocol.updates import Ranges
from localmem_protocol.views import View, Views, digest_of

QUIET_S: Final = 30.0
"""Rest before a head when there is much to sign."""

QUIET_BATCHES: Final = 16
"""That is much: what a head costs, some 100 bytes, is then little beside them."""

REST_S: Final = 8 * 3600.0
"""Rest before a head otherwise; see `rest_s`."""

Kind = Literal["unopened", "refused", "signature", "chain", "fork", "replay", "gap", "withheld"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a batch, or with an array: reported, counted, and in nobody's way.

    `clock` is the batch's, `sequence` that of the first event concerned (0 if none is known). Kinds:
    a batch that did not open; one that was refused, being no writer's; a head with a wrong signature;
    a batch that does not follow the one before it; two that cannot both be (fork); something that
    went back (replay); events that are missing (gap); batches that another device was shown and this
    one was not (withheld).
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


Kept = tuple[str, bytes]
"""A device, and a signed head of it as `SignedHead.encode` gives it."""

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

    `kept` are heads of others that an earlier run knew. They are checked again, and those that do not
    hold are ignored: whoever alters a journal could as well remove it.
    """

    def __init__(
        self,
        pool: PoolKey,
        device: str,
        authorship: Authorship | None = None,
        kept: Iterable[Kept] = (),
    ) -> None:
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
        self._unkept: set[int] = set()  # others' client ids whose newest head is in no journal
        self._unseen: dict[
            int, int
        ] = {}  # client -> the clock after its newest batch never read here
        self._let_go: dict[str, list[tuple[int, int]]] = {}  # what of each went in others' arrays
        self._views = Views()
        for owner, data in kept:
            self._recall(owner, data)

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
        other._unkept = {client for client in self._unkept if client in others}
        other._let_go = {device: list(spans) for device, spans in self._let_go.items()}
        return other

    def take_unkept(self) -> dict[int, Kept]:
        """Heads of others that are newer than what was taken the last time, for a journal."""
        unkept, self._unkept = sorted(self._unkept), set()
        return {client: (self._owners[client], self.newest[client].encode()) for client in unkept}

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
        # Zeros: to its writer the one before was deleted. That may come later than this, in another part.
        if before is not None and not linked and previous != NO_HASH:
            problems.append(problem("chain", "it does not follow the batch before it"))
        known = self.newest.get(client)
        if known and known.at.clock == clock + 1 and known.at.head != own_hash:
            problems.append(problem("fork", "another batch than the one that was signed there"))
        sound, views = True, digest_of(parcel.views)
        for data in parcel.heads:
            signed = self._verified(device, client, clock, previous, data, views)
            if isinstance(signed, str):
                problems.append(problem("signature", signed))
                sound = False
                continue
            problems += self._compare(device, signed)
            if linked:
                self._cover(client, clock - 1)
        if sound and device == self._device:
            self._views.said(parcel.views)
        elif sound:  # a head goes with them: so decoded
            self._views.hear(device, client, previous, parcel.views)
        content = bool(replace(parcel, heads=(), views=())) or not sound
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
                        self._let(batch, self._owners[client])
            if client in self._owners:
                self._suspects.add(self._owners[client])

    def is_blind_beside(self, device: str) -> bool:
        """Whether batches of others were never read here: what they had taken over of a device's, and
        evicted, looks as if it were missing, until that device signs again.
        """
        return any(self._owners[client] != device for client in self._unseen)

    def missing(self, reached: Mapping[int, int], tombstones: int) -> list[Problem]:
        """What is not here though it was signed. Ask when all is here, and nothing more is coming.

        For an update of somebody who was away may come in pieces, heads before what they speak of.

        `reached` is how far each client id goes, `tombstones` how many there are.
        """
        problems = self.behind(reached, reached)
        for device in sorted(self._suspects):
            problems += self._missing_of(device, tombstones)
        self._suspects.clear()
        return problems

    def behind(self, shown: Mapping[int, int], reached: Mapping[int, int]) -> list[Problem]:
        """What the hub does not show now, and had: it signed or sent more, or confirmed it.

        Both say how far each client id goes: at the hub, and as it was known here.
        """
        problems = []
        for client, device in self._owners.items():
            signed = self.newest.get(client) if device != self._device else None
            had = max(reached.get(client, 0), signed.at.clock if signed else 0)
            now = shown.get(client, 0)
            if now >= had:
                continue
            lost = [
                run[1]
                for clock, batch in self._batches.get(client, {}).items()
                for run in batch.runs
                if clock >= now and run[0] == device
            ]
            first = min(lost, default=signed.at.sequence if signed else 0)
            reason = f"the hub shows {now} batches, and had {had}"
            problems.append(Problem(device, client, had, reason, "replay", first))
        return problems

    def compare(self, reached: Mapping[int, int], own: int) -> list[Problem]:
        """What others have of any chain, beside what is here. Ask when nothing more is coming.

        `reached` is how far each client id goes, `own` the one that this device writes under. What
        others were shown and this device was not is said again each time, until it is shown.
        """
        problems = []
        for claim in self._views.waiting:
            view, here = claim.view, reached.get(claim.view.client, 0)
            device = self._owners.get(view.client) or self._named(view.client)
            kind: Kind = "withheld"
            if here >= view.clock:
                self._views.done(claim)
                batch = self._batches.get(view.client, {}).get(view.clock - 1)
                if batch is None or claim.fits(batch.hash):
                    continue  # it fits, or it was evicted or forgotten since
                kind, clock = "fork", view.clock - 1
                reason = f"device {claim.viewer} was shown another batch there"
                first = next((run[1] for run in batch.runs), 0)
            else:
                clock, first = here, self._newest_of(device) + 1
                reason = f"device {claim.viewer} was shown {view.clock} batches, this one {here}"
                if view.client == own:
                    kind = "fork"  # nobody else writes there
            problems.append(Problem(device, view.client, clock, reason, kind, first))
        return problems

    def again(self, client: int, clock: int, own_hash: bytes) -> Problem | None:
        """A batch that came before comes again: whether it is another now."""
        batch = self._batches.get(client, {}).get(clock)
        if batch is None or batch.hash == own_hash:
            return None
        first = next((run[1] for run in batch.runs), 0)
        reason = "the hub shows another batch than before"
        return Problem(self._owners[client], client, clock, reason, "fork", first)

    def unseen(self, device: str, client: int, end: int) -> None:
        """Batches before this clock came without content, or did not open: heads may have been there."""
        if self.authorship is not None:
            self._owners.setdefault(client, device)
            self._unseen[client] = max(end, self._unseen.get(client, 0))

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

    def views(self, head: bytes) -> tuple[View, ...]:
        """What is here of others and was not said yet, to go with a head of this hash."""
        newest = {}
        for client, batches in self._batches.items():
            if batches and self._owners[client] != self._device:
                clock = next(reversed(batches))
                newest[client] = (clock + 1, batches[clock].hash)
        return self._views.make(head, newest, self._owners)

    def head(
        self, client: int, clock: int, previous: bytes, views: tuple[View, ...] = ()
    ) -> bytes | None:
        """The own head for the batch at `clock`, which covers those before; None if none is made.

        It signs the views that go with it.
        """
        if self.authorship is None or not self.signs or not clock:
            return None
        pool = self._pool
        kept, digest = self._kept(client), digest_of(views)
        at = Position(pool.pool, pool.epoch, client, clock, previous, *kept, digest)
        return self.authorship.sign(at).compact()

    def _verified(
        self,
        device: str,
        client: int,
        clock: int,
        previous: bytes,
        data: bytes,
        views: bytes,
    ) -> SignedHead | str:
        """A head in its place, or why it is none."""
        assert self.authorship is not None
        keys = self.authorship.keys_of(device)
        if keys is None:
            return "a signed head of a device whose keys are unknown"
        try:
            signed = decode_compact(
                data, self._pool.pool, self._pool.epoch, client, clock, previous, views
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
            self._remember(device, signed)
        self._suspects.add(device)
        if known is None or reason is None:
            return []
        kind: Kind = "fork" if known.at.clock == at.clock else "replay"
        return [Problem(device, at.client, at.clock, reason, kind, at.sequence)]

    def _remember(self, device: str, signed: SignedHead) -> None:
        client = signed.at.client
        if client not in self.newest and len(self.newest) >= CLIENTS_MAX:
            return  # of several documents under one key, one of which is a hub's that began anew
        self.newest[client] = signed
        if device != self._device:
            self._unkept.add(client)

    def _recall(self, device: str, data: bytes) -> None:
        """A head that a journal kept, if it holds, and is of another device's chain in this document."""
        keys = self.authorship.keys_of(device) if self.authorship else None
        if keys is None or device == self._device or len(self.newest) >= CLIENTS_MAX:
            return
        try:
            signed = decode_head(data)
            signed.verify(device, keys)
        except (HeadError, SignatureError):
            return
        if (signed.at.pool, signed.at.epoch) == (self._pool.pool, self._pool.epoch):
            self.newest[signed.at.client] = signed
            self._owners[signed.at.client] = device
            self._suspects.add(device)

    def _cover(self, client: int, clock: int) -> None:
        batches, device = self._batches[client], self._owners[client]
        batch = batches.get(clock)
        while batch is not None and not batch.covered:
            self._count(device, batch, -1)
            batch.covered = True
            clock -= 1
            batch = batches.get(clock) if batch.linked else None

    def _let(self, batch: _Batch, owner: str) -> None:
        """What of others was in a batch that is deleted: it was here, and nobody says that it stays."""
        for device in {run[0] for run in batch.runs if run[0] != owner}:
            spans = [run[1:] for run in batch.runs if run[0] == device]
            self._let_go[device] = _merged([*self._let_go.get(device, ()), *spans])

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
        clients = [client for client, owner in self._owners.items() if owner == device]
        heads = [self.newest[client] for client in clients if client in self.newest]
        if sum(bool(self._batches.get(client)) for client in clients) > 1:
            return []  # two copies of it may write at once, and count and evict without each other
        if not heads or any(self._unseen.get(c, 0) > self._heard(c) for c in clients):
            return []  # what it evicted it may have said where somebody else forgot something
        # Client ids are drawn: it is the newest that has come furthest, or else let more go.
        at = max((one.at for one in heads), key=lambda at: (at.sequence, at.floor, at.holes))
        floor = max(one.at.floor for one in heads)
        known = [*self._runs_of(device, self._owners), *self._let_go.get(device, ())]
        here = list(_within(_merged(known), floor, at.sequence))
        lacking = at.sequence + 1 - floor - at.holes - _length(here) - tombstones
        if lacking <= 0:
            return []
        first = floor if not here or here[0][0] > floor else here[0][1] + 1
        reason = f"{lacking} events up to sequence {at.sequence} are withheld or lost"
        return [Problem(device, at.client, at.clock, reason, "gap", first)]

    def _heard(self, client: int) -> int:
        """The clock after the batch in which the newest head of a client id was."""
        return self.newest[client].at.clock + 1 if client in self.newest else 0

    def _newest_of(self, device: str) -> int:
        """The highest sequence of a device that is here or that it signed; 0 for none."""
        here = (last for _, last in self._runs_of(device, self._owners))
        signed = (head.at.sequence for c, head in self.newest.items() if self._owners[c] == device)
        return max(*here, *signed, 0, 0)

    def _named(self, client: int) -> str:
        """Whose a client id is that the hub never showed; "" if nobody says, or of no member."""
        device = self._views.named(client)
        if not device or self.authorship is None or self.authorship.keys_of(device) is None:
            return ""
        return device

    def _runs_of(self, device: str, clients: Iterable[int]) -> Iterator[tuple[int, int]]:
        for client in clients:
            for batch in self._batches.get(client, {}).values():
                yield from (run[1:] for run in batch.runs if run[0] == device)


def with_head(parcel: Parcel, head: bytes | None, views: tuple[View, ...] = ()) -> Parcel:
    """The same with a head, if there is one, and the views that it signs."""
    return parcel if head is None else replace(parcel, heads=(*parcel.heads, head), views=views)


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
