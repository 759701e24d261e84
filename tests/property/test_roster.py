"""A pool with several owners, a hub between them, and people who do what they must not.

Hypothesis chooses the steps. Replicas lag behind, owners act at once, entries wait on the way, and
somebody who is no owner signs what an owner could have said. After every step: whoever was removed
opens no key that was made since, whoever is a member opens the newest, and everybody agrees.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from localmem_protocol.entries import Admit, Rotate, decode_entry, sign_entry
from localmem_protocol.errors import ConflictError, ForkError, RosterError, SealError
from localmem_protocol.roster import (
    RECOVERY,
    Author,
    Entry,
    Role,
    Roster,
    admit,
    encode_entry,
    found,
    leave,
    recover,
    remove,
    rename,
    rotate,
    set_role,
)
from support.pools import NOW, RESCUER, person
from support.seeded import SeededRandom

PEOPLE = [person(number) for number in range(6)]
OUTSIDER = person(77)

people = st.sampled_from(PEOPLE)
roles: st.SearchStrategy[Role] = st.sampled_from(["owner", "member", "reader"])
Change = Callable[[Roster, Author], Entry]


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Something that an owner can do."""
    target, role = draw(people), draw(roles)
    everything = draw(st.booleans())
    random = SeededRandom(draw(st.integers(0, 2**32 - 1)))

    def admits(roster: Roster, author: Author) -> Entry:
        return admit(
            roster,
            author,
            random,
            NOW,
            device=target.device,
            keys=target.keys.public,
            role=role,
            label=target.device[-4:],
            epochs=None if everything else (),
        )

    kinds: list[Change] = [
        admits,
        admits,
        lambda roster, author: remove(roster, author, random, NOW, target.device),
        lambda roster, author: rotate(roster, author, random, NOW),
        lambda roster, author: set_role(roster, author, random, NOW, target.device, role),
        lambda roster, author: rename(roster, author, random, NOW, target.device, "name"),
    ]
    return draw(st.sampled_from(kinds))


class Pools(RuleBasedStateMachine):
    """The hub's roster, everybody's copy of it, and a model of who holds which epoch's key."""

    @initialize()
    def begin(self) -> None:
        first = found(PEOPLE[0], SeededRandom(1), NOW, RESCUER.keys.public)
        self.log = [encode_entry(first)]
        self.hub = Roster.load(self.log)
        self.copies = {PEOPLE[0].device: Roster.load(self.log)}
        self.waiting: list[Entry] = []
        self.holds: dict[str, set[int]] = {PEOPLE[0].device: {1}, RECOVERY: {1}}
        self.number = 0

    def submit(self, entry: Entry) -> None:
        """To the hub, which takes it at the end of its list and nowhere else."""
        current = (entry.index, entry.previous) == (self.hub.length, self.hub.head)
        try:
            self.hub.apply(entry)
        except (ConflictError, ForkError):
            assert not current
            return
        assert current
        self.log.append(encode_entry(entry))
        for action in entry.actions:
            if isinstance(action, Admit):
                held = self.holds.setdefault(action.device, set())
                held |= {epoch for epoch, _ in action.sealed}
            if isinstance(action, Rotate):
                for device in (*self.hub.members, RECOVERY):
                    self.holds[device].add(action.epoch)

    @rule(author=people, change=changes(), now=st.booleans())
    def acts(self, author: Author, change: Change, now: bool) -> None:
        """By what it knows, which may be old; and at once, or the entry waits on its way."""
        copy = self.copies.get(author.device)
        if copy is None:
            return
        try:
            entry = change(copy, author)
        except RosterError:
            return
        assert copy.members[author.device].role == "owner"
        if now:
            self.submit(entry)
        else:
            self.waiting.append(entry)

    @rule(author=people)
    def leaves(self, author: Author) -> None:
        copy = self.copies.get(author.device)
        if copy is None:
            return
        try:
            entry = leave(copy, author, NOW)
        except RosterError:
            return
        self.submit(entry)

    @rule(newcomer=people, lost=st.lists(people, max_size=2, unique=True))
    def recovers(self, newcomer: Author, lost: list[Author]) -> None:
        self.number += 1
        try:
            entry = recover(
                self.hub,
                RESCUER.keys,
                SeededRandom(self.number),
                NOW,
                device=newcomer.device,
                keys=newcomer.keys.public,
                lost=[one.device for one in lost],
            )
        except RosterError:
            return
        self.submit(entry)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def arrives(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.waiting) - 1))
        self.submit(self.waiting.pop(at))

    @rule(who=people, count=st.integers(1, 8))
    def fetches(self, who: Author, count: int) -> None:
        """Members, and who once was one, read the hub's list; who joins is told how far it goes."""
        copy = self.copies.get(who.device)
        if copy is not None:
            for data in self.log[copy.length : copy.length + count]:
                copy.apply(data)
        elif who.device in self.hub.members:
            tip, pool_id = self.hub.tip, self.hub.pool_id
            self.copies[who.device] = Roster.load(self.log, pool_id=pool_id, known=tip)

    @rule(evil=st.sampled_from([*PEOPLE, OUTSIDER]), change=changes(), under_own_name=st.booleans())
    def forges(self, evil: Author, change: Change, under_own_name: bool) -> None:
        """Somebody who is no owner signs what an owner could have said."""
        member = self.hub.members.get(evil.device)
        if member is not None and member.role == "owner":
            return
        owner = next(
            one
            for one in PEOPLE
            if (known := self.hub.members.get(one.device)) and known.role == "owner"
        )
        try:
            entry = change(self.hub, owner)
        except RosterError:
            return
        name = evil.device if under_own_name else owner.device
        forged = sign_entry(msgspec.structs.replace(entry, author=name), evil.keys)
        self.refused_by_all(encode_entry(forged))

    @rule(change=changes(), author=people)
    def forgets_the_rotation(self, change: Change, author: Author) -> None:
        """An owner's client that takes rights away and makes no new key."""
        try:
            entry = change(self.hub, author)
        except RosterError:
            return
        left = tuple(action for action in entry.actions if not isinstance(action, Rotate))
        if len(left) < len(entry.actions):
            bare = sign_entry(msgspec.structs.replace(entry, actions=left), author.keys)
            self.refused_by_all(encode_entry(bare))

    @rule(data=st.data())
    def garbles(self, data: st.DataObject) -> None:
        """The hub changes a byte of an entry that waits, or of one that it has."""
        source = [encode_entry(entry) for entry in self.waiting] + self.log[-1:]
        chosen = bytearray(data.draw(st.sampled_from(source)))
        at = data.draw(st.integers(0, len(chosen) - 1))
        chosen[at] ^= data.draw(st.integers(1, 255))
        self.refused_by_all(bytes(chosen))

    @rule(who=people, cut=st.integers(1, 4), change=changes())
    def shows_another_history(self, who: Author, cut: int, change: Change) -> None:
        """A hub and somebody who was an owner: a list that parts from the real one further back."""
        copy = self.copies.get(who.device)
        base = self.log[: max(1, len(self.log) - cut)]
        branch = Roster.load(base)
        owners = [one for one in PEOPLE if one.device in branch.members]
        try:
            other = change(branch, owners[0])
        except RosterError:
            return
        log = [*base, encode_entry(other)]
        fork = Roster.load(log)
        if copy is None:
            return
        try:
            Roster.load(log, pool_id=copy.pool_id, known=copy.tip)
        except ForkError:
            assert not fork.contains(copy.tip)
        else:
            assert copy.length <= len(base) or log[: copy.length] == self.log[: copy.length]

    def refused_by_all(self, data: bytes) -> None:
        for roster in (self.hub, *self.copies.values()):
            tip, members = roster.tip, roster.membership
            try:
                roster.apply(data)
            except RosterError:
                assert roster.tip == tip
                assert roster.membership is members
            else:
                raise AssertionError(f"taken: {decode_entry(data)}")

    @invariant()
    def everybody_opens_what_is_theirs_and_nothing_else(self) -> None:
        if not hasattr(self, "hub"):
            return
        keys: dict[int, set[bytes]] = {}
        for one in [*PEOPLE, RESCUER, OUTSIDER]:
            opened = self.hub.epoch_keys(one.keys, one.device)
            assert set(opened) == self.holds.get(one.device, set())
            if one.device in self.hub.members or one is RESCUER:
                assert self.hub.epoch in opened
            for epoch, key in opened.items():
                keys.setdefault(epoch, set()).add(key)
        holders = {device for device, held in self.holds.items() if self.hub.epoch in held}
        outside = holders - {*self.hub.members, RECOVERY}
        assert bool(outside) == self.hub.stale
        assert all(len(found) == 1 for found in keys.values())
        assert len(set.union(*keys.values())) == len(keys) == self.hub.epoch

    @invariant()
    def nobody_opens_what_is_for_somebody_else(self) -> None:
        if not hasattr(self, "hub"):
            return
        devices = [*self.hub.members, RECOVERY]
        for number, one in enumerate([*PEOPLE, OUTSIDER]):
            other = devices[(number + self.hub.length) % len(devices)]
            if other != one.device:
                try:
                    self.hub.epoch_key(self.hub.epoch, one.keys, other)
                except SealError:
                    continue
                raise AssertionError(f"{one.device} opened what is for {other}")

    @invariant()
    def everybody_agrees(self) -> None:
        if not hasattr(self, "hub"):
            return
        assert any(one.role == "owner" for one in self.hub.members.values())
        again = Roster.load(self.log, pool_id=self.hub.pool_id, known=self.hub.tip)
        assert again.membership == self.hub.membership
        for copy in self.copies.values():
            assert self.hub.contains(copy.tip)
            assert copy.pool_id == self.hub.pool_id
            same = Roster.load(self.log[: copy.length], verified=copy.length)
            assert copy.membership == same.membership

    @invariant()
    def roles_of_epochs_that_are_over_stay(self) -> None:
        if not hasattr(self, "hub"):
            return
        for copy in self.copies.values():
            for one in PEOPLE:
                for epoch in range(1, copy.epoch):
                    then = copy.role_at(one.device, epoch)
                    assert self.hub.role_at(one.device, epoch) == then


Pools.TestCase.settings = settings(stateful_step_count=25)
TestPools = Pools.TestCase
