"""The pools of this device, as a service of the daemon: an agent for each, and what people change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from localmem_node.config import HubSettings
from localmem_node.errors import NodeError, QueryError, SyncError
from localmem_node.sync.agent import SyncAgent
from localmem_node.sync.checkouts import Checkouts, PoolTexts
from localmem_node.sync.hub_client import HubClient
from localmem_node.sync.journal import SqliteJournal
from localmem_node.sync.outbox import open_told
from localmem_node.sync.pool_admin import Opened, PoolAdmin
from localmem_node.sync.rendezvous import Mailbox, Rendezvous, State, host, joiner
from localmem_node.sync.roster_way import RosterWay
from localmem_node.sync.sending import Sending, sending_json
from localmem_node.sync.shared_log import SharedLog, Source
from localmem_node.sync.sharing import Rule, Share, preview
from localmem_node.sync.transport import Transport
from localmem_node.sync.untold import Untold
from localmem_protocol.batching import DEFAULT, Batching
from localmem_protocol.entries import Role
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import ProtocolError
from localmem_protocol.events import Event
from localmem_protocol.pairing import Code, Host, Invitation, Joiner, Peer
from localmem_protocol.seams import Clock, Random

logger = logging.getLogger(__name__)

T = TypeVar("T")

Forget = Callable[[Sequence[str]], object]
"""Is told the ids of what is about to be forgotten."""

PREVIEW_EVENTS: Final = 1024
"""Own events that are read at once for a preview."""


class Running:
    """A pool, and the agent that keeps it in step; `untie` ends its hearing of what is forgotten."""

    def __init__(
        self, opened: Opened, log: SharedLog, agent: SyncAgent, untie: Callable[[], None]
    ) -> None:
        self.opened, self.log, self.agent, self.untie = opened, log, agent, untie

    async def stop(self) -> None:
        """End it, with what it still had to say."""
        self.untie()
        await self.agent.stop()


class Pools:
    """Implements `daemon.app.Service`. All methods belong to the event loop."""

    name = "pools"

    def __init__(
        self,
        admin: PoolAdmin,
        source: Source,
        before_forgetting: Callable[[Forget], Callable[[], None]],
        open_transport: Callable[[HubSettings], Transport],
        clock: Clock,
        random: Random,
        untold: Untold,
        batching: Batching = DEFAULT,
        checkouts: Checkouts | None = None,
    ) -> None:
        self._untold = untold
        self._admin = admin
        self._batching = batching
        self._checkouts = checkouts
        self._source = source
        self._before_forgetting = before_forgetting
        self._open_transport = open_transport
        self._clock, self._random = clock, random
        self._running: dict[str, Running] = {}
        self._untie: dict[str, Callable[[], None]] = {}  # of what is kept for damaged pools
        self._meeting: Rendezvous | None = None
        self._meetings = 0
        self._changing = asyncio.Lock()
        self._stopped = False

    async def start(self) -> None:
        """Begin to synchronise every pool."""
        for pool in self._admin.damaged:
            self._untie[pool] = self._before_forgetting(partial(self._untold.keep, pool))
        for opened in self._admin.pools:
            await self._begin(opened)

    async def stop(self) -> None:
        """End, and leave nothing behind."""
        self._stopped = True
        if self._meeting is not None:
            self._meeting.cancel()
        await asyncio.gather(*(running.stop() for running in self._running.values()))
        self._running.clear()
        for untie in self._untie.values():
            untie()
        self._untie.clear()

    def status(self) -> dict[str, Any]:
        """How each pool is, for people and for JSON."""
        pools = [self._describe(running) for running in self._running.values()]
        return {
            "pools": pools,
            "damaged": dict(self._admin.damaged),
            "untold": {
                pool: count for pool in self._admin.files.pools() if (count := self._waiting(pool))
            },
        }

    async def sync_now(self, wait_s: float) -> list[dict[str, Any]]:
        """Try all at once; their states when each has settled or failed, or time is up."""
        asked = [running.agent.sync_now(wait_s) for running in self._running.values()]
        await asyncio.gather(*asked)
        return [self._describe(running) for running in self._running.values()]

    async def create(
        self, url: str, name: str, rule: Rule, *, label: str, invitation: str | None
    ) -> dict[str, Any]:
        """A new pool; with its recovery phrase, which is nowhere else."""
        opened, phrase = await self._do(
            lambda: self._admin.create(url, name, rule, label=label, invitation=invitation)
        )
        await self._begin(opened)
        return {"pool": opened.record.pool, "name": name, "hub": url, "phrase": phrase}

    async def recover(
        self, url: str, phrase: str, rule: Rule, *, label: str, lost: Sequence[str]
    ) -> dict[str, Any]:
        """Enter the pools of a recovery phrase; and the ids of those for which there is no room."""
        try:
            found = await self._do(lambda: self._admin.recover(url, phrase, rule, label, lost))
        finally:  # of several, some may be here
            for opened in self._admin.pools:
                await self._begin(opened)
        entered = [{"pool": one.record.pool, "name": one.record.name} for one in found.entered]
        return {"pools": entered, "left_out": found.left_out}

    def _state_code(self, pool: str) -> str | None:
        """What people compare to see whether a hub shows two devices the same; None while not in sync."""
        running = self._running.get(pool)
        code = running.agent.status()["state_code"] if running is not None else None
        return code if isinstance(code, str) else None

    async def members(self, pool: str) -> dict[str, Any]:
        """Who is in a pool, as the hub says now; as it was known last if that cannot be reached."""
        opened, problem = self._admin.find(pool), None
        try:
            await self._do(lambda: opened.client.refresh(opened.standing))
        except (NodeError, ProtocolError) as error:
            problem = str(error)
        standing = opened.standing
        members = [
            {
                "device": device,
                "role": member.role,
                "label": standing.label(device),
                "fingerprint": member.keys.fingerprint(),
                "this": device == self._admin.identity.device,
            }
            for device, member in sorted(standing.roster.members.items())
        ]
        return {
            "pool": opened.record.pool,
            "name": opened.record.name,
            "epoch": standing.roster.epoch,
            "stale": standing.roster.stale,
            **sending_json(opened.record.sending),
            "members": members,
            "state_code": self._state_code(opened.record.pool),
            "problem": problem,
        }

    async def remove(self, pool: str, device: str) -> int:
        """Send a device away; the epoch that begins."""
        opened = self._admin.find(pool)
        await self._do(lambda: self._admin.remove(opened, device))
        return opened.standing.roster.epoch

    async def set_role(self, pool: str, device: str, role: Role) -> None:
        """Give a member another role."""
        opened = self._admin.find(pool)
        await self._do(lambda: self._admin.set_role(opened, device, role))

    async def rotate(self, pool: str) -> int:
        """Begin a new epoch; its number."""
        opened = self._admin.find(pool)
        return await self._do(lambda: self._admin.rotate(opened))

    async def leave(self, pool: str, *, force: bool) -> None:
        """Be a member no more; with `force` also if the hub cannot be told."""
        opened = self._admin.find(pool)
        try:
            await self._do(lambda: self._admin.leave(opened))
        except (NodeError, ProtocolError):
            if not force:
                raise
        await self._end(opened.record.pool)
        self._admin.forget(opened)

    async def share(self, pool: str, change: Callable[[Rule], Rule]) -> Rule:
        """Change what of this device enters a pool, from now on; what is there already stays."""
        opened = self._admin.find(pool)
        before = opened.record.rule
        rule = change(before)
        changed = await self._do(lambda: self._admin.set_rule(opened, rule))
        running = self._running.get(changed.record.pool)
        if running is not None:
            running.opened = changed
            running.log.rule = rule
            if rule.widens(before):
                await self._begin_again(running, changed, lambda: self._look_again(changed))
        return rule

    async def send(self, pool: str, change: Callable[[Sending], Sending]) -> Sending:
        """Change how what is shared travels, for what is sent from now on; or only see it."""
        opened = self._admin.find(pool)
        before = opened.record.sending
        sending = change(before)
        if sending != before:
            changed = await self._do(lambda: self._admin.set_sending(opened, sending))
            running = self._running.get(changed.record.pool)
            if running is not None:
                await self._begin_again(running, changed, lambda: None)
        return sending

    async def preview(self, rule: Rule) -> list[Share]:
        """What a rule would share of what is here."""
        return await self._do(lambda: preview(self._own_events(), rule))

    def rule(self, pool: str) -> Rule:
        """What is shared with a pool."""
        return self._admin.find(pool).record.rule

    async def invite(self, pool: str, role: Role, label: str) -> dict[str, Any]:
        """Begin to let a device in: the code to type there. One at a time."""
        opened = self._admin.find(pool)
        mailbox = await self._do(lambda: Mailbox.open(HubClient(opened.record.hub)))
        code = Code.generate(mailbox.number, self._random)
        identity = self._admin.identity
        side = Host(code, identity.keys, identity.device, label, self._random)

        def admit(peer: Peer) -> Invitation:
            return self._admin.admit(opened, peer, role)

        meeting = self._meet(Rendezvous(side, mailbox, self._clock))
        meeting.start(lambda one: host(one, side, admit))
        return {
            "code": str(code),
            "hub": opened.record.hub,
            "fingerprint": meeting.fingerprint,
            "pairing": self._meetings,
        }

    async def join(self, url: str, text: str, rule: Rule, label: str) -> dict[str, Any]:
        """Begin to be let in, by a code that another device shows."""
        code = Code.parse(text)
        self._admin.check_room()  # before the code is spent
        mailbox = await self._do(lambda: Mailbox.join(HubClient(url), code.mailbox))
        identity, loop = self._admin.identity, asyncio.get_running_loop()
        side = Joiner(code, identity.keys, identity.device, label, self._random)

        def enter(invitation: Invitation) -> None:
            # The address that its person typed, and that works here, whatever the other side wrote.
            here = msgspec.structs.replace(invitation, hub=url)
            opened = self._admin.join(here, rule)
            asyncio.run_coroutine_threadsafe(self._begin(opened), loop).result()

        meeting = self._meet(Rendezvous(side, mailbox, self._clock))
        meeting.start(lambda one: joiner(one, side, enter))
        return {"fingerprint": meeting.fingerprint, "pairing": self._meetings}

    async def meeting(self, known: State, wait_s: float, number: int | None) -> dict[str, Any]:
        """How far the pairing under way is. Raises QueryError if there is none, and SyncError
        if another took its place."""
        meeting = self._meeting_now(number)
        return (await meeting.until_other_than(known, wait_s)).json()

    def agree(self, number: int | None, *, agreed: bool) -> None:
        """What the person says who compared the fingerprints."""
        self._meeting_now(number).agree(agreed)

    def _meeting_now(self, number: int | None) -> Rendezvous:
        if self._meeting is None:
            raise QueryError("pairing", "none is under way")
        if number not in (None, self._meetings):
            raise SyncError("another pairing began on this device, which ended this one")
        return self._meeting

    def _meet(self, meeting: Rendezvous) -> Rendezvous:
        if self._meeting is not None:
            self._meeting.cancel()
        self._meeting = meeting
        self._meetings += 1
        return meeting

    async def _begin(self, opened: Opened) -> None:
        pool = opened.record.pool
        if pool in self._running or self._stopped:
            return
        log = SharedLog(self._source, opened.record.rule)
        way = RosterWay(
            opened.record,
            self._admin.files,
            opened.standing,
            opened.client,
            self._open_transport,
            self._open_journal,
            self._clock,
            log,
        )
        texts = None
        if self._checkouts is not None:
            texts = PoolTexts(
                self._checkouts,
                references=opened.record.sending.references,
                covers=lambda project: (
                    opened.standing.place == "reader" or log.rule.covers(project)
                ),
            )
        agent = SyncAgent(way, log, self._clock, self._random, self._batching, texts)
        await agent.start()
        untie = self._before_forgetting(partial(self._forget, pool, agent))
        self._running[pool] = Running(opened, log, agent, untie)
        if (kept := self._untie.pop(pool, None)) is not None:  # it is damaged no more
            kept()

    async def _begin_again(
        self, running: Running, changed: Opened, between: Callable[[], None]
    ) -> None:
        """Go on with another agent, which goes by what was changed. What waits goes by that, too."""
        pool = changed.record.pool
        if self._running.pop(pool, None) is None:
            return
        await running.agent.stop(say=False)
        try:
            await self._do(between)
        finally:
            if any(
                one.record.pool == pool for one in self._admin.pools
            ):  # else it was left meanwhile
                await self._begin(changed)
            # Only now: what is forgotten meanwhile is refused, where it would not be told to others.
            running.untie()

    async def _end(self, pool: str) -> None:
        running = self._running.pop(pool, None)
        if running is not None:
            await running.stop()

    def _open_journal(self, key: PoolKey) -> SqliteJournal:
        return open_told(self._admin.files, self._source.device, key, self._untold)

    def _forget(self, pool: str, agent: SyncAgent, ids: Sequence[str]) -> None:
        """Tell a pool what is forgotten; what it cannot be told now is kept, and told later."""
        try:
            agent.forget(ids)
        except SyncError as error:
            logger.error("%s; what is forgotten is told to pool %s later", error, pool)
            self._untold.keep(pool, ids)

    def _waiting(self, pool: str) -> int:
        """How many events are forgotten that a pool could not be told of; -1 if nobody knows."""
        try:
            return len(self._untold.ids(pool))
        except SyncError:
            return -1

    def _look_again(self, opened: Opened) -> None:
        """Older events may enter now: the session shall go through all of them."""
        epochs, epoch = opened.standing.epochs(), opened.standing.roster.epoch
        if epoch not in epochs:
            return  # nothing is written there
        journal = self._open_journal(epochs[epoch])
        try:
            journal.rewind()
        finally:
            journal.close()

    def _describe(self, running: Running) -> dict[str, Any]:
        record, standing = running.opened.record, running.opened.standing
        known = standing.length > 0
        status = running.agent.status()
        for problem in status["problems"]:
            problem["label"] = standing.label(problem["device"]) if known else ""
        return {
            **status,
            **sending_json(record.sending),
            "id": record.pool,
            "place": standing.place if known else None,
            "members": len(standing.roster.members) if known else None,
            "epoch": standing.roster.epoch if known else None,
            "roster_notice": running.opened.client.notice,
        }

    def _own_events(self) -> list[Event]:
        found: list[Event] = []
        after = 0
        while page := self._source.own_events(after, PREVIEW_EVENTS):
            found += page
            after = page[-1].sequence
        return found

    async def _do(self, work: Callable[[], T]) -> T:
        """Run something that waits for a hub or a disk; one after the other."""
        async with self._changing:
            return await asyncio.to_thread(work)
