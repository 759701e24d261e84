"""The hub's side of synchronisation of one pool, without any I/O of its own.

A room owns the pool's document and is its only writer. It checks each update strictly, merges it,
and hands out what is to be stored; only after the store has it (`committed`) are acknowledgements,
broadcasts and answers let go. So nobody ever learns from the hub what the hub could forget.

    receive() ──▶ rows ──▶ take() ──▶ [the store commits] ──▶ committed() ──▶ effects to carry out
                                                         └──▶ a failure: the room is discarded

Effects that depend on nothing uncommitted are returned at once. A room never opens a batch: it has
no key.

A peer may be there for one request only (`transient`). It begins with Hello, or with the Resume that
ended its last request; it hears no broadcasts; and `finish` says when everything that answers it has
been said. It cuts nobody's connection by coming, only by writing under the same client id.

Should the CRDT library fail on an update that passed the check, then that update is refused and kept
aside like any other, and the room is `broken`: what it has is committed, it hears nobody meanwhile,
and goes on with the document of a room that was loaded anew (`mend`). Its connections stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from localmem_protocol.document import Document, contents
from localmem_protocol.envelope import NO_HASH
from localmem_protocol.errors import (
    CapabilityError,
    FrameError,
    GapError,
    MergeError,
    ProtocolError,
    UpdateError,
)
from localmem_protocol.events import is_device_id
from localmem_protocol.frames import (
    CAPABILITIES,
    NOTICES,
    PROTOCOL,
    Ack,
    Close,
    Frame,
    Held,
    Hello,
    Notice,
    Refusal,
    Resume,
    Step1,
    Step2,
    Welcome,
    check_capabilities,
    decode_frame,
    encode_frame,
    is_permanent,
)
from localmem_protocol.frames import Update as UpdateFrame
from localmem_protocol.ledger import Ledger
from localmem_protocol.limits import (
    CLIENT_ID_MAX,
    CLIENTS_PER_DEVICE_MAX,
    STEP_BYTES,
    UPDATE_STRUCTS_MAX,
)
from localmem_protocol.passing import Passing
from localmem_protocol.presence import WAITING, Presence
from localmem_protocol.seams import Random
from localmem_protocol.trimming import keep_whole
from localmem_protocol.updates import (
    Item,
    Ranges,
    Update,
    after,
    batches_in,
    covers,
    decode_state_vector,
    decode_update,
    encode_update,
    split,
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A connection that has been authenticated: `connection` is unique, `device` its token's.

    A `transient` one lives as long as one request.
    """

    connection: int
    device: str
    writer: bool = True
    transient: bool = False


class Send(NamedTuple):
    """Send a frame on a connection."""

    connection: int
    data: bytes


class Drop(NamedTuple):
    """Close a connection with a code of `frames.Close`; it has left the room already (but after
    `finish`)."""

    connection: int
    code: int
    reason: str


Effect = Send | Drop


@dataclass(frozen=True)
class Row:
    """An update to store."""

    device: str
    update: bytes


@dataclass(frozen=True)
class Quarantined:
    """An update that was refused, kept for the operator to look at."""

    device: str
    update: bytes
    reason: str


@dataclass(slots=True)
class Commit:
    """What goes into one transaction, in this order, and what waits for it.

    `erases` is whether something was deleted in a way in which nobody evicts: somebody forgot it, and
    it should leave the store soon.
    """

    rows: list[Row] = field(default_factory=list)
    clients: dict[int, str] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    acks: dict[int, Ack] = field(default_factory=dict)  # connection -> the newest
    last: list[Effect] = field(default_factory=list)  # what ends a request, after its acks
    passing: Passing = field(default_factory=Passing)
    erases: bool = False

    def __bool__(self) -> bool:
        return bool(self.rows or self.clients or self.quarantined)


@dataclass(slots=True)
class Guest:
    """A connection in the room. `client` is its client id once it has said hello (0: not yet), `synced`
    whether it was sent what it lacked, `notices` whether it knows what a notice is."""

    peer: Peer
    client: int = 0
    synced: bool = False
    notices: bool = False


class Room:
    """One pool. `updates` are its stored rows in order, `clients` the registered client ids.

    `random` is what client ids are drawn by; without, the smallest that is free is next. That is for who
    knows all that were ever given: no store that could be an older copy of itself.

    Raises UpdateError and MergeError for rows that no room stored. `broken` is described above.
    """

    def __init__(
        self,
        updates: Iterable[bytes] = (),
        clients: dict[int, str] | None = None,
        *,
        step_bytes: int = STEP_BYTES,
        random: Random | None = None,
    ) -> None:
        self._step_bytes = step_bytes
        self._random = random
        self._document = Document()
        for client, device in (clients or {}).items():
            self._document.ledger.register(client, device)
        for data in updates:
            self._document.load(data)
        self._document.verify()
        self.broken = False
        self._guests: dict[int, Guest] = {}  # by connection
        self.notice: Notice | None = None  # what those are told once they are welcomed
        self.presence: Presence | None = None  # who is here; without it nobody is told
        self._next = Commit()
        self._under_way: Commit | None = None
        self._given: list[int] = []  # client ids that are new since this room was loaded

    @property
    def peers(self) -> int:
        """Connections in the room."""
        return len(self._guests)

    @property
    def idle(self) -> bool:
        """Nobody is here and nothing is to be stored: the room can be forgotten."""
        return not self._guests and self._stored

    @property
    def to_mend(self) -> bool:
        """It is broken, and all that it has is stored."""
        return self.broken and self._stored

    @property
    def pending_rows(self) -> int:
        """Rows that are not stored yet, those of a commit under way included."""
        under_way = self._under_way.rows if self._under_way is not None else ()
        return len(self._next.rows) + len(under_way)

    def live_bytes(self, device: str) -> int:
        """Bytes of a device's batches that are not deleted; looks at each of them."""
        return sum(map(len, self._document.array(device)))

    def snapshot(self) -> bytes:
        """The whole document, deleted batches without their content, as one update."""
        return self._document.export()

    def mend(self, fresh: Room) -> None:
        """Go on with the document of a room that was loaded after the last commit of this one."""
        if not self.to_mend:
            raise ValueError("a room is mended when it is broken and all that it has is stored")
        self._document, self.broken = fresh._document, False

    def join(self, peer: Peer) -> None:
        """Take in a connection; it must say hello first."""
        self._guests[peer.connection] = Guest(peer)

    def leave(self, connection: int) -> None:
        """The connection is gone."""
        self._guests.pop(connection, None)
        if self.presence is not None:
            self.presence.leave(connection)

    def tell(self, now_s: float) -> list[Effect]:
        """Whom to tell who is here, after anything happened and when `presence.due_s` has come."""
        news = [] if self.presence is None else self.presence.news(now_s)
        return self._after_commit(*(Send(one, encode_frame(notice)) for one, notice in news))

    def notify(self, notice: Notice) -> list[Effect]:
        """Tell everybody who understands it, and who comes later; it depends on nothing stored here."""
        self.notice = notice
        frame = encode_frame(notice)
        return [Send(connection, frame) for connection, one in self._guests.items() if one.notices]

    def receive(self, connection: int, data: bytes) -> list[Effect]:
        """Take one frame; what to do now. A connection that is not here any more is ignored.

        Raises ValueError while it is broken: mend it first.
        """
        guest = self._guests.get(connection)
        if guest is None:
            return []
        if self.broken:
            raise ValueError("a broken room hears nobody")
        peer = guest.peer
        try:
            frame = decode_frame(data)
            if isinstance(frame, Hello):
                return self._greet(peer, frame)
            if isinstance(frame, Resume):
                return self._resume(peer, frame)
            if not guest.client:
                raise FrameError(f"a {type(frame).__name__} before Hello")
            match frame:
                case Step1(vector):
                    return self._answer(guest, vector)
                case Step2(update) | UpdateFrame(update):
                    return self._write(guest, update)
                case Notice(kind):
                    if kind == WAITING and self.presence is not None:
                        self.presence.wait(peer.device)
                    return []
                case _:
                    raise FrameError(f"a {type(frame).__name__} from a device")
        except GapError as error:
            return self._refuse(peer, Close.GAP, str(error))
        except CapabilityError as error:
            return self._refuse(peer, Close.CAPABILITY, str(error))
        except ProtocolError as error:
            return self._refuse(peer, Close.BAD_FRAME, str(error))

    def would_store(self, connection: int, data: bytes) -> bool:
        """Whether there may be something to store if this frame were taken: it is an update, or a
        greeting under a client id that is not known to be this device's."""
        try:
            frame = decode_frame(data)
        except FrameError:
            return False
        guest = self._guests.get(connection)
        if guest is None or not isinstance(frame, Hello):
            return isinstance(frame, Step2 | UpdateFrame)
        return self._ledger.owner(frame.client) != guest.peer.device

    def refuse(self, connection: int, code: int, reason: str) -> list[Effect]:
        """Send a connection away with a code of `frames.Close`, unheard."""
        guest = self._guests.get(connection)
        return [] if guest is None else self._refuse(guest.peer, code, reason)

    def finish(self, connection: int) -> list[Effect]:
        """A transient peer says no more. Once all that answers it has been said it gets a Resume for
        its next request, if it has a client id, and a Drop with `Close.ANSWERED`; `leave` is next."""
        guest = self._guests.get(connection)
        ending: list[Effect] = []
        if guest is not None and guest.client:
            resume = Resume(guest.client, *self._held(guest.client), guest.notices)
            ending.append(Send(connection, encode_frame(resume)))
        if guest is not None:
            ending.append(Drop(connection, Close.ANSWERED, ""))
        waiting = self._waiting()
        if waiting is None:
            return ending
        waiting.last += ending
        return []

    def take(self) -> Commit | None:
        """What to store now: None while a commit is under way, or when there is nothing."""
        if self._under_way is not None or not self._next:
            return None
        self._pass_gathered()
        self._under_way, self._next = self._next, Commit()
        return self._under_way

    def committed(self) -> list[Effect]:
        """The store has what `take` gave: what may be said now."""
        if self._under_way is None:
            raise ValueError("no commit is under way")
        effects = self._under_way.effects
        effects += (
            Send(connection, encode_frame(ack)) for connection, ack in self._under_way.acks.items()
        )
        effects += self._under_way.last
        self._under_way = None
        here = self._guests
        return [
            effect for effect in effects if isinstance(effect, Drop) or effect.connection in here
        ]

    def failed(self, reason: str) -> list[Effect]:
        """The store does not have it: everybody out, and discard this room."""
        return [Drop(connection, Close.STORE_FAILED, reason) for connection in self._guests]

    @property
    def _ledger(self) -> Ledger:
        return self._document.ledger

    @property
    def _stored(self) -> bool:
        return not self._next and self._under_way is None

    def _answer(self, guest: Guest, vector: bytes) -> list[Effect]:
        """What somebody with this state vector lacks, or the first part of it."""
        connection = guest.peer.connection
        decode_state_vector(vector)
        self._pass_gathered()  # what is new so far is in the answer
        data = self._document.since(vector)
        # Two bytes are the least that a batch takes: most answers need no look at how many there are.
        many = len(data) > 2 * UPDATE_STRUCTS_MAX
        whole = decode_update(data, stored=True) if many or len(data) > self._step_bytes else None
        if whole and (len(data) > self._step_bytes or batches_in(whole) > UPDATE_STRUCTS_MAX):
            pieces = split(whole, self._step_bytes)
            data = encode_update(next(pieces))
            if next(pieces, None) is not None:
                return self._after_commit(Send(connection, encode_frame(UpdateFrame(data))))
        if not guest.peer.transient:
            guest.synced = True  # from now on it hears of everything as it happens
        frames = (encode_frame(self._all_held()), encode_frame(Step2(data)))
        return self._after_commit(*(Send(connection, frame) for frame in frames))

    def _all_held(self) -> Held:
        ledger = self._ledger
        accounts = ((client, ledger.account(client)) for client in ledger)
        return Held(
            tuple((c, one.clock, one.digest(one.marks.values())) for c, one in accounts if one)
        )

    def _greet(self, peer: Peer, hello: Hello) -> list[Effect]:
        if hello.protocol != PROTOCOL:
            raise FrameError(f"protocol {hello.protocol!r}; this hub speaks {PROTOCOL}")
        check_capabilities("this device", hello.capabilities)
        if not is_device_id(hello.device) or hello.device != peer.device:
            raise FrameError("a device id that is not this token's")
        if not 0 <= hello.client <= CLIENT_ID_MAX:
            raise FrameError(f"a client id outside 0 to {CLIENT_ID_MAX}")
        client = hello.client
        if client == 0 or not self._may_use(client, peer.device):
            client = self._unused(peer.device)
        effects = [] if peer.transient else self._replace(peer, client)
        if client not in self._ledger:
            self._ledger.register(client, peer.device)
            self._next.clients[client] = peer.device
        guest = self._guests[peer.connection]
        guest.client = client
        self._pass_gathered()
        guest.synced = False
        clock, head = self._held(client)
        said: list[Frame] = [Welcome(CAPABILITIES, client, clock, head, peer.writer)]
        said.append(Step1(self._document.state_vector()))
        guest.notices = NOTICES in hello.capabilities
        if guest.notices:
            said += [] if self.notice is None else [self.notice]
        if self.presence is not None and not peer.transient:
            here = self.presence.welcome(peer.connection, peer.device, notices=guest.notices)
            said += [] if here is None else [here]
        return effects + self._after_commit(
            *(Send(peer.connection, encode_frame(frame)) for frame in said)
        )

    def _resume(self, peer: Peer, resume: Resume) -> list[Effect]:
        """Go on with a client id, unless something happened under it since. Raises GapError."""
        if not peer.transient:
            raise FrameError("a Resume on a connection that lasts")
        if self._ledger.owner(resume.client) != peer.device:
            raise GapError(f"client {resume.client} is not known here; greet again")
        if self._held(resume.client) != (resume.clock, resume.head):
            raise GapError(f"client {resume.client} is elsewhere by now; greet again")
        guest = self._guests[peer.connection]
        guest.client, guest.notices = resume.client, guest.notices or resume.notices
        return []

    def _held(self, client: int) -> tuple[int, bytes]:
        """The clock after a client's newest batch, and that batch's hash."""
        account = self._ledger.account(client)
        return (account.clock, account.head) if account else (0, NO_HASH)

    def _may_use(self, client: int, device: str) -> bool:
        """Whether a client id is the device's, or nobody's and it may have one more."""
        owner = self._ledger.owner(client)
        return owner == device or (owner is None and self._may_have_more(device))

    def _may_have_more(self, device: str) -> bool:
        return len(self._ledger.clients_of(device)) < CLIENTS_PER_DEVICE_MAX

    def _unused(self, device: str) -> int:
        """A client id under which nothing was written: an earlier one of the device, or a new one.

        One from before this room was loaded only if there can be no more: a hub that was restored from a
        backup may have lost what was written under it. Raises FrameError when it had all that a device may have, and UpdateError when the room has.
        """
        live, ledger = {guest.client for guest in self._guests.values()}, self._ledger
        mine = [one for one in ledger.clients_of(device) if one not in live]
        empty = [one for one in mine if not ledger.clock(one)]
        more = self._may_have_more(device)
        for client in empty:
            if client in self._given or not more:
                return client
        if not more:
            raise FrameError(f"a device with {CLIENTS_PER_DEVICE_MAX} client ids that are in use")
        client = ledger.free(self._random)
        self._given.append(client)
        return client

    def _replace(self, peer: Peer, client: int) -> list[Effect]:
        """One live connection per client id: the newer one stays. Requests are none."""
        older = [
            connection
            for connection, other in self._guests.items()
            if other.client == client and connection != peer.connection and not other.peer.transient
        ]
        for connection in older:
            self.leave(connection)
        return [Drop(c, Close.REPLACED, "another connection took over") for c in older]

    def _write(self, guest: Guest, data: bytes) -> list[Effect]:
        peer, client = guest.peer, guest.client
        if not peer.writer:
            return self._refuse(peer, Close.READ_ONLY, "this token may only read")
        replaced: list[Effect] = []
        try:
            update = decode_update(data)
            owners = self._check(update, peer.device)
            fresh = self._new_part(update)
            # What only appends has no other encoding.
            same = fresh is update and update.appended is not None
            update = fresh
            if update.items or update.deletes:
                news = data if same else encode_update(update)
                self._document.merge(news, update, owners)
                self._next.clients |= owners
                self._next.rows.append(Row(peer.device, news))
                if peer.transient:  # whoever is connected as this client lost touch, or is a clone
                    replaced = self._replace(peer, client)
                self._next.erases |= self._forgets(update, peer.device)
                self._gather(peer, update, news)
        except GapError:
            raise
        except (UpdateError, MergeError) as error:
            self.broken = isinstance(error, MergeError)
            self._next.quarantined.append(Quarantined(peer.device, data, str(error)))
            return self._refuse(peer, Close.REFUSED_UPDATE, str(error))
        ack = Ack(client, self._ledger.clock(client))
        if (waiting := self._waiting()) is None:
            return [Send(peer.connection, encode_frame(ack))]
        waiting.acks[peer.connection] = ack
        return replaced

    def _gather(self, peer: Peer, update: Update, encoded: bytes) -> None:
        """Have an update passed on, as one with the others of its sender in this commit."""
        if self._next.passing.may_overtake(peer.connection, peer.device, update):
            self._pass_gathered()
        self._next.passing.add(peer.connection, peer.device, update, encoded)
        if update.deletes:
            self._pass_gathered()

    def _pass_gathered(self) -> None:
        """Put what was gathered among the effects, for those who are in sync by now."""
        passing, self._next.passing = self._next.passing, Passing()
        for sender, update in passing.updates():
            frame = encode_frame(UpdateFrame(update))
            self._next.effects += [
                Send(one, frame)
                for one, guest in self._guests.items()
                if guest.synced and one != sender
            ]

    def _check(self, update: Update, device: str) -> dict[int, str]:
        """Whether a device may say this; the client ids that it brings. Raises UpdateError, GapError.

        It may write in its own array alone, and delete in every array: who forgets an event deletes
        the segment that it is in, wherever that is.
        """
        for client in update.items:
            if self._ledger.owner(client) not in (None, device):
                raise UpdateError(f"client {client} belongs to another device")
        owners = self._ledger.check(update)
        if any(owner != device for owner in owners.values()):
            raise UpdateError("a new client id writes into another device's array")
        keep_whole(self._document, update)
        return owners

    def _new_part(self, update: Update) -> Update:
        """The checked update without what is here. Raises UpdateError if that differs."""
        appended = update.appended
        if appended is not None and appended[1].clock == self._ledger.clock(appended[0]):
            return update
        items: dict[int, list[Item]] = {}
        for client, run in update.items.items():
            known = self._ledger.clock(client)
            if run[0].clock < known:
                self._compare(client, run, known)
            if fresh := after(run, client, known):
                items[client] = fresh
        deletes: Ranges = {}
        if update.deletes:
            deleted = self._document.deletes()
            deletes = {
                client: news
                for client, ranges in update.deletes.items()
                if (news := [r for r in ranges if not covers(deleted.get(client, []), *r)])
            }
        return Update(items, deletes)

    def _forgets(self, update: Update, device: str) -> bool:
        """Whether this is how somebody forgets: in another's array, or moving what is to stay.

        Who evicts deletes in the own array alone, and mostly nothing else comes with it.
        """
        if not update.deletes:
            return False
        others = any(self._ledger.owner(client) != device for client in update.deletes)
        return others or bool(update.items)

    def _compare(self, client: int, run: list[Item], known: int) -> None:
        """Refuse other bytes than ours at a clock that is known."""
        held = contents(self._document.run(client, run[0].clock))
        for clock, sealed in contents(run).items():
            if clock < known and held.get(clock, sealed) != sealed:
                raise UpdateError(f"other bytes than before at clock {clock} of client {client}")

    def _waiting(self) -> Commit | None:
        """The commit after which something may be said now; None if nothing is uncommitted."""
        return self._next if self._next else self._under_way

    def _after_commit(self, *effects: Effect) -> list[Effect]:
        """Keep the order: what follows an uncommitted write is said after its commit."""
        waiting = self._waiting()
        if waiting is None:
            return list(effects)
        waiting.effects += effects
        return []

    def _refuse(self, peer: Peer, code: int, reason: str) -> list[Effect]:
        self.leave(peer.connection)
        refusal = encode_frame(Refusal(code, is_permanent(code), reason[:200]))
        return [Send(peer.connection, refusal), Drop(peer.connection, code, reason[:100])]
