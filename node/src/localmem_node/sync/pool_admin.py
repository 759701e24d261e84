"""What people do with pools: make one, let devices in, send them away, begin a new epoch, leave.

Every change of a pool is one entry of its roster, made here, signed by this device and taken by the
hub, or nothing. Blocking, for threads; two changes of one pool wait for each other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from localmem_node.errors import ConfigError, HubRefused, QueryError, SyncError
from localmem_node.sync.hub_client import HubClient
from localmem_node.sync.lost_devices import lost_devices
from localmem_node.sync.pool_client import PoolClient, make_pool, pools_of
from localmem_node.sync.pool_files import POOLS_MAX, PoolFiles, PoolRecord
from localmem_node.sync.sending import Sending
from localmem_node.sync.sharing import Rule
from localmem_node.sync.standing import Identity, Standing
from localmem_protocol import roster as rosters
from localmem_protocol.access import is_pool_id
from localmem_protocol.entries import RECOVERY, Entry, Role, encode_entry
from localmem_protocol.errors import RosterError
from localmem_protocol.limits import LABEL_BYTES_MAX
from localmem_protocol.pairing import Invitation, Peer
from localmem_protocol.recovery import new_phrase, recovery_keys
from localmem_protocol.roster import Author, Roster, Tip, pool_id_of
from localmem_protocol.seams import Clock, Random

logger = logging.getLogger(__name__)

NO_ID: Final = "-"
"""What no id begins with."""

ROLES: Final[tuple[Role, ...]] = ("owner", "member", "reader")


@dataclass(frozen=True)
class Opened:
    """A pool that this device is in, and how to speak to its hub about it."""

    record: PoolRecord
    standing: Standing
    client: PoolClient


@dataclass(frozen=True)
class Recovered:
    """The pools that a phrase opened here; and those, by id, for which there was no room."""

    entered: list[Opened]
    left_out: list[str]


class PoolAdmin:
    """All pools of one device."""

    def __init__(self, files: PoolFiles, identity: Identity, clock: Clock, random: Random) -> None:
        self.files, self.identity = files, identity
        self._clock, self._random = clock, random
        self._opened: dict[str, Opened] = {}
        self.damaged: dict[str, str] = {}  # pools that cannot be used, and why
        for pool in files.pools():
            try:
                self._keep(files.record(pool))
            except (ConfigError, SyncError) as error:  # the others, and all else, go on
                logger.error("%s", error)
                self.damaged[pool] = str(error)

    @property
    def pools(self) -> list[Opened]:
        """Every pool, by id."""
        return [self._opened[pool] for pool in sorted(self._opened)]

    def check_room(self) -> None:
        """Raise QueryError if this device is in as many pools as it can be."""
        if self._room <= 0:
            raise QueryError(
                "pool",
                f"a device is in at most {POOLS_MAX} pools; leave one first: localmem pool leave",
            )

    @property
    def _room(self) -> int:
        return POOLS_MAX - len(self._opened) - len(self.damaged)

    def find(self, text: str) -> Opened:
        """The pool that somebody means: its name, its id, or the first digits of that.

        Raises QueryError, which says what there is.
        """
        if text in self._opened:
            return self._opened[text]
        digits = text if len(text) >= 4 else NO_ID
        # Both: an owner may have named a pool like the beginning of another one's id.
        found = [
            one
            for one in self.pools
            if one.record.name == text or one.record.pool.startswith(digits)
        ]
        if len(found) == 1:
            return found[0]
        names = ", ".join(f"{one.record.name} ({one.record.pool[:8]})" for one in self.pools)
        said = "means more than one; use its id" if found else "is no pool of this device"
        raise QueryError("pool", f"{text[:80]!r} {said}; there are: {names or 'none'}")

    def create(
        self, url: str, name: str, rule: Rule, *, label: str, invitation: str | None = None
    ) -> tuple[Opened, str]:
        """A new pool at a hub, with this device as its owner; and its recovery phrase, shown once.

        Raises ConfigError, SyncError, HubRefused, QueryError.
        """
        self._check_new(name, label)
        hub, phrase = HubClient(url), new_phrase(self._random)
        first = rosters.found(
            self._author,
            self._random,
            self._clock.now_ms(),
            recovery_keys(phrase).public,
            label=label,
            name=name,
        )
        pool = pool_id_of(encode_entry(first))
        record = PoolRecord(pool, url, name, rule)
        opened = Opened(record, *self._parts(record))
        opened.standing.learn([encode_entry(first)])
        try:
            make_pool(hub, first, invitation)
        except SyncError:
            self.files.remove(pool)
            raise
        self.files.save(record)
        self._opened[pool] = opened
        return opened, phrase

    def admit(self, opened: Opened, peer: Peer, role: Role) -> Invitation:
        """Let a device in that was paired with; what it is to be told. Raises SyncError, RosterError."""
        opened.client.refresh(opened.standing)
        known = opened.standing.roster.members.get(peer.device)
        if known is not None and (known.keys, known.role) == (peer.keys, role):
            tip = opened.standing.roster.tip  # it was let in before, and did not hear of it
            return Invitation(opened.record.hub, opened.record.pool, tip.length, tip.head)
        entry = self._change(
            opened,
            lambda roster, author: rosters.admit(
                roster,
                author,
                self._random,
                self._clock.now_ms(),
                device=peer.device,
                keys=peer.keys,
                role=role,
                label=peer.label,
            ),
        )
        tip = opened.standing.roster.tip
        if tip.length != entry.index + 1:
            raise SyncError("the roster changed meanwhile; begin again")
        return Invitation(opened.record.hub, opened.record.pool, tip.length, tip.head)

    def join(self, invitation: Invitation, rule: Rule, name: str = "") -> Opened:
        """Enter a pool that this device was admitted to. Raises SyncError, RosterError."""
        if not is_pool_id(invitation.pool):
            raise SyncError("an invitation to no pool")
        if invitation.pool in self._opened:
            return self._opened[invitation.pool]
        self.check_room()
        record = PoolRecord(invitation.pool, invitation.hub, name or invitation.pool[:8], rule)
        standing, client = self._parts(record)
        client.refresh(standing)
        if not standing.roster.contains(Tip(invitation.length, invitation.head)):
            raise SyncError("the hub shows another roster than the device that invited")
        if standing.place == "removed":
            raise SyncError("the roster does not have this device")
        return self._enter(record, standing, client)

    def recover(
        self, url: str, phrase: str, rule: Rule, label: str, lost: Sequence[str]
    ) -> Recovered:
        """Enter the pools of a recovery phrase as an owner, as many as there is room for.

        `lost` are devices to remove, by id or label. Raises QueryError, before anything is changed, for
        one that none of the pools knows, and when there is no room; else as `join` does.
        """
        hub = HubClient(url)
        recovery = Identity(RECOVERY, recovery_keys(phrase))
        every = [pool for pool in pools_of(hub, recovery) if pool not in self._opened]
        if not every:
            raise SyncError("no pool at this hub has this recovery phrase, or all are here already")
        self.check_room()
        clients = {pool: PoolClient(hub, pool, recovery, self._clock) for pool in every}
        entered, left_out = every[: self._room], every[self._room :]
        wanted = lost_devices(
            [Roster.load(clients[pool].shown(0).entries, pool_id=pool) for pool in entered],
            recovery.keys,
            lost,
        )
        if self.identity.device in wanted:
            raise QueryError("lost", "names this device")
        found: list[Opened] = []
        for pool in entered:
            by_phrase = clients[pool]
            record = PoolRecord(pool, url, pool[:8], rule)
            standing, client = self._parts(record)
            by_phrase.refresh(standing)
            if standing.place == "removed" or wanted & standing.roster.members.keys():
                by_phrase.change(
                    standing, lambda roster: self._recovering(roster, recovery, label, wanted)
                )
            found.append(self._enter(record, standing, client))
        return Recovered(found, left_out)

    def _recovering(
        self, roster: Roster, recovery: Identity, label: str, lost: frozenset[str]
    ) -> Entry:
        """The entry that admits this device, unless it is a member, and removes lost ones."""
        now_ms, gone = self._clock.now_ms(), sorted(lost & roster.members.keys())
        if self.identity.device in roster.members:
            author = Author(RECOVERY, recovery.keys)
            return rosters.remove(roster, author, self._random, now_ms, *gone)
        return rosters.recover(
            roster,
            recovery.keys,
            self._random,
            now_ms,
            device=self.identity.device,
            keys=self.identity.keys.public,
            label=label,
            lost=gone,
        )

    def remove(self, opened: Opened, device: str) -> None:
        """Send a device away, and begin an epoch that it cannot read. Raises QueryError, RosterError."""
        self._known(opened, device)
        if device == self.identity.device:
            raise QueryError("device", "is this one; to leave: localmem pool leave")
        self._change(
            opened,
            lambda roster, author: rosters.remove(
                roster, author, self._random, self._clock.now_ms(), device
            ),
        )

    def set_role(self, opened: Opened, device: str, role: Role) -> None:
        """Give a member another role."""
        self._known(opened, device)
        self._change(
            opened,
            lambda roster, author: rosters.set_role(
                roster, author, self._random, self._clock.now_ms(), device, role
            ),
        )

    def rotate(self, opened: Opened) -> int:
        """Begin a new epoch; its number."""
        self._change(
            opened,
            lambda roster, author: rosters.rotate(
                roster, author, self._random, self._clock.now_ms()
            ),
        )
        return opened.standing.roster.epoch

    def leave(self, opened: Opened) -> None:
        """Be a member no more, and forget the pool here. What was received stays in the store."""
        try:
            opened.client.refresh(opened.standing)
        except HubRefused as refused:
            if refused.code != "removed":
                raise
            self.forget(opened)
            return
        if opened.standing.place != "removed":
            alone = len(opened.standing.roster.members) == 1
            if not alone:  # nobody would be left to make the entry for
                self._change(
                    opened,
                    lambda roster, author: rosters.leave(roster, author, self._clock.now_ms()),
                )
        self.forget(opened)

    def forget(self, opened: Opened) -> None:
        """Forget a pool on this device alone, whatever its hub says."""
        self._opened.pop(opened.record.pool, None)
        self.files.remove(opened.record.pool)

    def set_rule(self, opened: Opened, rule: Rule) -> Opened:
        """Share by another rule from now on."""
        return self._changed(opened, msgspec.structs.replace(opened.record, rule=rule))

    def set_sending(self, opened: Opened, sending: Sending) -> Opened:
        """Send in another way from now on."""
        return self._changed(opened, msgspec.structs.replace(opened.record, sending=sending))

    def _changed(self, opened: Opened, record: PoolRecord) -> Opened:
        self.files.save(record)
        changed = Opened(record, opened.standing, opened.client)
        self._opened[record.pool] = changed
        return changed

    @property
    def _author(self) -> Author:
        return Author(self.identity.device, self.identity.keys)

    def _change(self, opened: Opened, make: Callable[[Roster, Author], Entry]) -> Entry:
        try:
            return opened.client.change(opened.standing, lambda roster: make(roster, self._author))
        except RosterError as error:
            raise QueryError("pool", f"{error} (this device is: {opened.standing.place})") from None

    def _parts(self, record: PoolRecord) -> tuple[Standing, PoolClient]:
        standing = Standing(self.files, record.pool, self.identity)
        client = PoolClient(HubClient(record.hub), record.pool, self.identity, self._clock)
        return standing, client

    def _keep(self, record: PoolRecord) -> Opened:
        opened = self._opened[record.pool] = Opened(record, *self._parts(record))
        return opened

    def _enter(self, record: PoolRecord, standing: Standing, client: PoolClient) -> Opened:
        named = msgspec.structs.replace(record, name=standing.name or record.name)
        self.files.save(named)
        self.damaged.pop(record.pool, None)
        opened = self._opened[record.pool] = Opened(named, standing, client)
        return opened

    def _check_new(self, name: str, label: str) -> None:
        for field, text in (("name", name), ("label", label)):
            if not text.strip() or not text.isprintable() or len(text.encode()) > LABEL_BYTES_MAX:
                raise QueryError(field, f"must be 1 to {LABEL_BYTES_MAX} bytes of printable text")
        self.check_room()
        if any(one.record.name == name for one in self.pools):
            raise QueryError("name", f"there is a pool {name!r} already")

    def _known(self, opened: Opened, device: str) -> None:
        opened.client.refresh(opened.standing)
        if device not in opened.standing.roster.members:
            raise QueryError("device", f"{device[:32]!r} is no member; see: localmem pool members")
