"""What is simulated unless something else is asked for: `Session` and `Room` of production."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from localmem_protocol.batching import DEFAULT
from localmem_protocol.envelope import Opener, PoolKey
from localmem_protocol.errors import ProtocolError
from localmem_protocol.events import Event
from localmem_protocol.frames import Ack, Frame, Step1, Step2, Update, Welcome, decode_frame
from localmem_protocol.presence import Presence
from localmem_protocol.referenced import Referenced
from localmem_protocol.references import Reference, Texts
from localmem_protocol.replica import Integrated, Replica
from localmem_protocol.room import Effect, Room
from localmem_protocol.seams import Random
from localmem_protocol.session import (
    JOURNAL_UPDATES_MAX,
    UNACKNOWLEDGED_MAX,
    EventLog,
    Journal,
    Session,
)
from localmem_protocol.signatures import Authorship, Problem
from localmem_protocol.simulation.participants import DeviceSide, HubSide, Implementation, Sealed
from localmem_protocol.updates import Id, decode_state_vector, decode_update

WITNESS: Final = "e" * 16
"""The device id of the replica that follows what the hub commits; it writes nothing."""

_KINDS: Final = {
    b"\x00\x00": "step1",
    b"\x00\x01": "step2",
    b"\x00\x02": "update",
}
_NAMES: Final = {100: "hello", 101: "welcome", 102: "ack", 103: "refusal", 104: "notice"}


class ReplicaWitness:
    """A `Witness` that merges and opens every row that a hub commits."""

    def __init__(self, pool: PoolKey) -> None:
        self.replica = Replica(pool, WITNESS)
        self._ends: dict[int, int] = {}
        self._tombstones: set[bytes] = set()

    def committed(self, update: bytes) -> Sequence[str]:
        """As `Witness` says."""
        try:
            result = self.replica.integrate(update)
            for client, run in decode_update(update).items.items():
                self._ends[client] = max(self._ends.get(client, 0), run[-1].end)
        except ProtocolError as error:
            raise ValueError(f"the hub stored what no device takes: {error}") from None
        self._tombstones.update(result.tombstones)
        return sorted(_brought(self.replica, result))

    def tombstones(self) -> set[bytes]:
        """As `Witness` says."""
        return self._tombstones

    def holds(self) -> set[str]:
        """As `Witness` says."""
        return _events(self.replica)

    def promises(self, frame: bytes) -> str | None:
        """As `Witness` says: acknowledgements, welcomes and state vectors are promises."""
        match _decoded(frame):
            case None:
                return "what is no frame"
            case Ack(client, clock):
                said = {client: clock}
            case Welcome(client=client, clock=clock):
                said = {client: clock}
            case Step1(vector):
                said = decode_state_vector(vector)
            case _:
                return None
        for client, clock in sorted(said.items()):
            if clock > self._ends.get(client, 0):
                return f"clock {clock} of client {client}; stored is {self._ends.get(client, 0)}"
        return None


def _decoded(frame: bytes) -> Frame | None:
    """A frame; None for bytes that are none, which a broken implementation may well send."""
    try:
        return decode_frame(frame)
    except ProtocolError:
        return None


def canonical(document: bytes) -> bytes:
    """A document in one form, however a replica groups it: every clock's content and place, and
    the delete set.
    """
    update = decode_update(document, stored=True)
    structs: list[tuple[Id, bytes | None, Id | None, Id | None, str | None]] = []
    for client, run in sorted(update.items.items()):
        for item in run:
            for clock in range(item.clock, item.end):
                content = item.contents[clock - item.clock] if item.contents else None
                first = clock == item.clock
                origin = item.origin if first else (client, clock - 1)
                right = item.right if content is not None else None
                root = item.root if first else None
                structs.append(((client, clock), content, origin, right, root))
    deletes = sorted((client, sorted(ranges)) for client, ranges in update.deletes.items())
    return msgspec.msgpack.encode((structs, deletes))


def _replica(side: DeviceSide) -> Replica:
    assert isinstance(side, Session)
    return side.replica


def _holds(side: DeviceSide) -> set[str]:
    return _events(_replica(side))


def _events(replica: Replica) -> set[str]:
    """What somebody who joins now can open."""
    fresh = Replica(replica.pool, WITNESS, 0, [replica.export()])
    return _brought(fresh, fresh.loaded)


def _brought(replica: Replica, result: Integrated) -> set[str]:
    """The ids of the events that came, and the names of those that came as references."""
    return {event.id for event in result.events} | _names(replica.referenced, result.references)


def _names(referenced: Referenced, references: Iterable[Reference]) -> set[str]:
    return {_shown(referenced.name(reference)) for reference in references}


def _shown(name: bytes) -> str:
    return f"reference {name.hex()}"


def _named(pool: PoolKey, event: Event) -> str | None:
    name = _referenced(pool).name_of(event)
    return None if name is None else _shown(name)


@lru_cache(maxsize=64)
def _referenced(pool: PoolKey) -> Referenced:
    """It is only asked for names."""
    return Referenced(pool.reference_key())


def _waiting(side: DeviceSide) -> set[str]:
    return {_shown(name) for name in _replica(side).referenced.waiting}


def _blind(side: DeviceSide, problem: Problem) -> bool:
    return _replica(side).signatures.is_blind_beside(problem.device)


def _limits(side: DeviceSide, journal: Journal, array_bytes_max: int) -> str | None:
    assert isinstance(side, Session)
    if side.under_way > UNACKNOWLEDGED_MAX:
        return f"{side.under_way} batches under way"
    if len(journal.load().updates) > JOURNAL_UPDATES_MAX:
        return f"{len(journal.load().updates)} updates in a journal"
    return None


def _unsaved(frame: bytes, journal: Journal) -> str | None:
    """What is sent before it is journalled could be sealed again, differently, after a crash."""
    match _decoded(frame):
        case Update(update) | Step2(update):
            sent = {client: run[-1].end for client, run in decode_update(update).items.items()}
        case _:
            return None
    for saved in reversed(journal.load().updates):  # nearly always in the newest
        for client, run in decode_update(saved, stored=True).items.items():
            if run[-1].end >= sent.get(client, 0):
                sent.pop(client, None)
        if not sent:
            return None
    return f"clocks up to {sent} are sent and not journalled" if sent else None


def _open_device(
    pool: PoolKey,
    log: EventLog,
    journal: Journal,
    array_bytes_max: int,
    /,
    *,
    reader: bool,
    authorship: Authorship,
    texts: Texts | None,
) -> DeviceSide:
    return Session(
        pool,
        log,
        journal,
        array_bytes_max,
        reader=reader,
        authorship=authorship,
        batching=DEFAULT,
        texts=texts,
    )


def sealed_in(data: bytes) -> list[Sealed]:
    """The batches in a frame that has an update, or in an update; none in anything else."""
    try:
        match _decoded(data):
            case Update(update) | Step2(update):
                found = decode_update(update)
            case None:
                found = decode_update(data, stored=True)
            case _:
                return []
    except ProtocolError:
        return []
    return [
        (client, item.clock + offset, sealed)
        for client, run in found.items.items()
        for item in run
        for offset, sealed in enumerate(item.contents or ())
    ]


def opened_by(pool: PoolKey, batches: Sequence[tuple[str, Sealed]]) -> set[tuple[int, int]]:
    """(client id, clock) of those batches, each with its device, that a key opens."""
    openers: dict[int, Opener] = {}
    opened: set[tuple[int, int]] = set()
    for device, (client, clock, sealed) in sorted(batches):
        opener = openers.setdefault(client, Opener(pool, device, client))
        try:
            opener.open(sealed, clock)
        except ProtocolError:
            continue
        opened.add((client, clock))
    return opened


def _forget(side: DeviceSide, ids: Sequence[str]) -> None:
    assert isinstance(side, Session)
    side.forget(ids)


def _remembers(pool: PoolKey, updates: Sequence[bytes]) -> set[str]:
    replica = Replica(pool, WITNESS, 0, updates)
    return _brought(replica, replica.loaded)


def _open_hub(
    rows: Sequence[bytes], clients: dict[int, str], step_bytes: int, random: Random
) -> Room:
    room = Room(rows, clients, step_bytes=step_bytes, random=random)
    room.presence = Presence()
    return room


def _tell(side: HubSide, now_s: float) -> tuple[list[Effect], float | None]:
    assert isinstance(side, Room)
    effects = side.tell(now_s)
    return effects, None if side.presence is None else side.presence.due_s


def kind(frame: bytes) -> str:
    """The name of a frame's type."""
    return _KINDS.get(frame[:2]) or _NAMES.get(frame[0] if frame else 0, "other")


PRODUCTION: Final = Implementation(
    open_device=_open_device,
    open_hub=_open_hub,
    document=lambda side: canonical(_replica(side).export()),
    holds=_holds,
    tell=_tell,
    witness=ReplicaWitness,
    limits=_limits,
    unsaved=_unsaved,
    kind=kind,
    sealed=sealed_in,
    opens=opened_by,
    forget=_forget,
    remembers=_remembers,
    named=_named,
    waiting=_waiting,
    blind=_blind,
)
