"""A room whose pool other replicas of the hub write to as well.

Each replica merges what its own connections say, as a `Room` does, and says nothing of it before it is
stored. When it stores, it learns what the others stored meanwhile:

    absorb(rows)   if that and what waits here touch different client ids, their order does not
                   matter: the rows are merged beside what waits, which may be stored after them
    rebase(fresh)  else the room goes on with the document that is stored, and hears once more what
                   its connections said since its last commit, in the same order; nothing of that
                   was answered yet. What was stored already under another replica is then known,
                   what does not fit any more is refused, and who registers a client id that is
                   taken by now gets another one

Both pass on what came to those who are connected, in its order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from localmem_protocol.errors import FrameError, ProtocolError
from localmem_protocol.frames import Close, Hello, Step1, decode_frame, encode_frame
from localmem_protocol.frames import Update as UpdateFrame
from localmem_protocol.limits import STEP_BYTES
from localmem_protocol.room import Commit, Drop, Effect, Peer, Room, Row, Send
from localmem_protocol.seams import Random
from localmem_protocol.updates import (
    Update,
    decode_update,
    encode_state_vector,
    encode_update,
    split,
)


@dataclass
class _Waiting:
    """What belongs to a commit that is not stored yet.

    `heard` are the frames (None: the end of a request) whose answers wait for it; `touched` the client
    ids that it writes or deletes under; `before` has the clocks that everybody here was told of, for
    those and for what is passed on with it; `newcomers` are welcomed with it.
    """

    heard: list[tuple[int, bytes | None]] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    before: dict[int, int] = field(default_factory=dict)
    newcomers: list[int] = field(default_factory=list)


class SharedRoom(Room):
    """One pool, as one of several replicas has it. Arguments as for `Room`.

    `newcomers` are client ids under which somebody was welcomed; whoever reads them empties the list.
    """

    def __init__(
        self,
        updates: Iterable[bytes] = (),
        clients: dict[int, str] | None = None,
        *,
        step_bytes: int = STEP_BYTES,
        random: Random | None = None,
    ) -> None:
        super().__init__(updates, clients, step_bytes=step_bytes, random=random)
        self.newcomers: list[int] = []
        self._gathering = _Waiting()
        self._storing = _Waiting()

    @property
    def registered(self) -> int:
        """Client ids that are known here."""
        return sum(1 for _ in self._ledger)

    def knows(self, client: int) -> bool:
        """Whether a client id is known here."""
        return client in self._ledger

    def receive(self, connection: int, data: bytes) -> list[Effect]:
        """As `Room` says."""
        effects = super().receive(connection, data)
        self._keep(connection, data)
        return effects

    def finish(self, connection: int) -> list[Effect]:
        """As `Room` says."""
        effects = super().finish(connection)
        self._keep(connection, None)
        return effects

    def take(self) -> Commit | None:
        """As `Room` says."""
        commit = super().take()
        if commit is not None:
            self._storing, self._gathering = self._gathering, _Waiting()
        return commit

    def committed(self) -> list[Effect]:
        """As `Room` says."""
        effects = super().committed()
        self.newcomers += self._storing.newcomers
        self._storing = _Waiting()
        return effects

    def absorb(self, rows: Sequence[Row], clients: Mapping[int, str]) -> tuple[list[Effect], bool]:
        """Take in what others stored, and what is registered by now; what to do, and whether
        somebody forgot something by it.

        Raises ProtocolError when it does not go with what waits here, or cannot be merged: `rebase`
        is next, and until then nobody is heard.
        """
        try:
            return self._absorb(rows, clients)
        except ProtocolError:
            self.broken = True
            raise

    def rebase(self, fresh: Room) -> list[Effect]:
        """Go on with the document of a room that was just loaded; what to do now."""
        vector = {client: self._ledger.clock(client) for client in self._ledger}
        vector |= self._gathering.before | self._storing.before
        touched = self._gathering.touched | self._storing.touched
        again = self._storing.heard + self._gathering.heard
        kept = list(self._under_way.quarantined if self._under_way is not None else ())
        kept += self._next.quarantined
        self._under_way, self._next = None, Commit(quarantined=kept)
        self._storing, self._gathering = _Waiting(), _Waiting()
        self._document, self.broken = fresh._document, False
        for connection, data in again:
            self._unhear(connection, data)
        effects: list[Effect] = []
        news = decode_update(self._document.since(encode_state_vector(vector)), stored=True)
        if news.items or news.deletes:
            for piece in split(news, self._step_bytes):
                effects += self._pass_on(encode_update(piece))
            effects += self._lost_touch(client for client in news.items if client not in touched)
        for connection, data in again:
            if self.broken:  # it is loaded once more, without those who were not heard
                effects.append(Drop(connection, Close.STORE_FAILED, "the room failed; try again"))
                self.leave(connection)
            else:
                heard = self.finish(connection) if data is None else self.receive(connection, data)
                effects += heard
        return effects

    def taken_over(self, client: int) -> list[Effect]:
        """Somebody was welcomed elsewhere under a client id: of two connections the newer one stays.

        Who is about to register it here gets another one.
        """
        under_way = self._under_way.clients if self._under_way is not None else {}
        mine = client in self._next.clients or client in under_way
        return [] if mine else self._lost_touch([client])

    def _absorb(self, rows: Sequence[Row], clients: Mapping[int, str]) -> tuple[list[Effect], bool]:
        if self.broken:
            raise FrameError("a broken room takes nothing in")
        news = [(row, decode_update(row.update, stored=True)) for row in rows]
        touched = {client for _, update in news for client in (*update.items, *update.deletes)}
        if touched & (self._gathering.touched | self._storing.touched):
            raise FrameError("others wrote under the same client ids")
        for client, device in clients.items():
            self._ledger.register(client, device)
        before = {client: self._ledger.clock(client) for client in touched}
        effects: list[Effect] = []
        erases = False
        for row, update in news:
            erases = erases or self._forgets(update, row.device)
            self._document.merge(row.update, update, self._ledger.check(update))
            effects += self._pass_on(row.update)
        if self._waiting() is not None:
            waiting = self._gathering if self._next else self._storing
            waiting.before = before | waiting.before
        written = {client for _, update in news for client in update.items}
        return effects + self._lost_touch(written), erases

    def _greet(self, peer: Peer, hello: Hello) -> list[Effect]:
        effects = super()._greet(peer, hello)
        if not peer.transient:
            waiting = self._gathering if self._next else self._storing
            welcomed = self.newcomers if self._waiting() is None else waiting.newcomers
            welcomed.append(self._guests[peer.connection].client)
        return effects

    def _new_part(self, update: Update) -> Update:
        fresh = super()._new_part(update)
        for client in (*fresh.items, *fresh.deletes):
            self._gathering.before.setdefault(client, self._ledger.clock(client))
            self._gathering.touched.add(client)
        return fresh

    def _keep(self, connection: int, data: bytes | None) -> None:
        """Remember what was heard if its answer waits."""
        if self._next:
            self._gathering.heard.append((connection, data))
        elif self._under_way is not None:
            self._storing.heard.append((connection, data))

    def _unhear(self, connection: int, data: bytes | None) -> None:
        """Take back what hearing a frame did, but to the document."""
        guest = self._guests.get(connection)
        if data is None or guest is None:
            return
        frame = decode_frame(data)
        if isinstance(frame, Hello):
            guest.client, guest.notices = 0, False
        if isinstance(frame, Hello | Step1):
            guest.synced = False

    def _pass_on(self, update: bytes) -> list[Effect]:
        frame = encode_frame(UpdateFrame(update))
        return self._after_commit(
            *(Send(one, frame) for one, guest in self._guests.items() if guest.synced)
        )

    def _lost_touch(self, clients: Iterable[int]) -> list[Effect]:
        """Drop who is connected as one of these, which are somewhere else now."""
        elsewhere = set(clients)
        here = [
            connection
            for connection, guest in self._guests.items()
            if guest.client in elsewhere and not guest.peer.transient
        ]
        for connection in here:
            self.leave(connection)
        return [Drop(c, Close.REPLACED, "another connection took over") for c in here]
