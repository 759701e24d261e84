"""Pairing through a mailbox that loses, doubles, reorders and alters, with somebody who guesses codes.

Hypothesis chooses the steps. Whatever happens: nobody is introduced but who was given the code, a wrong
guess costs the code, and a code that nobody troubles lets the right device in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from localmem_protocol.errors import PairingError
from localmem_protocol.pairing import Code, Host, Invitation, Joiner
from support.pools import person
from support.seeded import SeededRandom

HOST, JOINER, GUESSER = person(1), person(2), person(3)
TRIES_MAX = 3


@dataclass
class Try:
    """One code: the host's side, who came to the mailbox, and what lies in it for either."""

    code: Code
    host: Host
    invitation: Invitation
    guest: Joiner | None = None
    guessed: bool = False
    for_host: list[bytes] = field(default_factory=list)
    for_guest: list[bytes] = field(default_factory=list)
    taken: bool = False  # what was altered, or is not of this pairing, was delivered
    heard: bool = False  # the host was told something by whoever guessed

    def post(self) -> None:
        """Both leave what they have to say."""
        while (message := self.host.send()) is not None:
            self.for_guest.append(message)
        while self.guest is not None and (message := self.guest.send()) is not None:
            self.for_host.append(message)

    def deliver(self, message: bytes, *, to_host: bool) -> None:
        side = self.host if to_host else self.guest
        if side is None:
            return
        self.heard |= to_host and self.guessed
        try:
            side.receive(message)
        except PairingError:
            assert side.failed or side.__dict__["_done"]
        self.post()

    def honestly(self) -> None:
        """Everything arrives once, in order."""
        self.post()
        while self.for_host or self.for_guest:
            to_host = bool(self.for_host)
            self.deliver((self.for_host if to_host else self.for_guest).pop(0), to_host=to_host)


class Mailboxes(RuleBasedStateMachine):
    """The newest code is the one that people use; what lay in earlier mailboxes is known to everybody."""

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed: int) -> None:
        self.random = SeededRandom(seed)
        self.seen: list[bytes] = []
        self.tries: list[Try] = []
        self.open_code()

    @precondition(lambda self: hasattr(self, "tries") and len(self.tries) < TRIES_MAX)
    @rule()
    def open_code(self) -> None:
        number = len(self.tries) + 1
        code = Code.generate(number, self.random)
        host = Host(code, HOST.keys, HOST.device, "desk", self.random)
        invitation = Invitation("wss://hub.example/", "ab" * 16, number, bytes([number]) * 32)
        self.tries.append(Try(code, host, invitation))

    @property
    def now(self) -> Try:
        return self.tries[-1]

    @rule()
    def the_right_device_comes(self) -> None:
        if self.now.guest is None:  # a mailbox is joined once
            code = Code.parse(str(self.now.code))
            self.now.guest = Joiner(code, JOINER.keys, JOINER.device, "laptop", self.random)
            self.now.post()

    @rule(digits=st.integers(0, 10**8 - 1))
    def somebody_guesses(self, digits: int) -> None:
        if self.now.guest is None:
            guess = f"{digits:08}"
            if guess == self.now.code.secret:
                return
            code = Code(self.now.code.mailbox, guess)
            self.now.guest = Joiner(code, GUESSER.keys, GUESSER.device, "laptop", self.random)
            self.now.guessed = True
            self.now.post()

    @rule(
        to_host=st.booleans(), place=st.integers(0, 3), fate=st.sampled_from("dddlpa"), at=st.data()
    )
    def something_arrives(self, to_host: bool, place: int, fate: str, at: st.DataObject) -> None:
        """In any order; delivered, lost, put again, or altered."""
        waiting = self.now.for_host if to_host else self.now.for_guest
        if not waiting:
            return
        message = waiting[place % len(waiting)]
        self.seen.append(message)
        if fate != "p":
            waiting.remove(message)
        if fate == "a":
            changed = bytearray(message)
            changed[at.draw(st.integers(0, len(message) - 1))] ^= at.draw(st.integers(1, 255))
            message = bytes(changed)
            self.now.taken = True
        if fate != "l":
            self.now.deliver(message, to_host=to_host)

    @precondition(lambda self: bool(getattr(self, "seen", None)))
    @rule(to_host=st.booleans(), data=st.data())
    def something_old_arrives(self, to_host: bool, data: st.DataObject) -> None:
        self.now.taken = True
        self.now.deliver(data.draw(st.sampled_from(self.seen)), to_host=to_host)

    @rule()
    def the_host_agrees(self) -> None:
        one = self.now
        if one.host.joiner is not None and not one.host.__dict__["_done"]:
            one.host.invite(one.invitation)
            one.post()

    @rule()
    def all_else_arrives(self) -> None:
        """What is under way comes in order; where nothing was wrong before, the right device is in."""
        one = self.now
        calm = not (one.taken or one.guessed or one.host.failed)
        calm = calm and one.guest is not None and not one.guest.failed
        one.honestly()
        if calm and one.guest is not None and one.host.joiner is not None:
            self.the_host_agrees()
            one.honestly()

    @invariant()
    def nobody_is_introduced_but_who_was_given_the_code(self) -> None:
        for one in getattr(self, "tries", []):
            if one.host.joiner is not None:
                assert (one.host.joiner.device, one.host.joiner.keys) == (
                    JOINER.device,
                    JOINER.keys.public,
                )
                assert not one.guessed
            if one.guest is not None and one.guest.host is not None:
                assert one.guest.host.keys == HOST.keys.public
                assert not one.guessed
            if one.guest is not None and one.guest.invitation is not None:
                assert one.guest.invitation == one.invitation
                assert one.host.joiner is not None

    @invariant()
    def whoever_failed_has_nothing(self) -> None:
        for one in getattr(self, "tries", []):
            assert not (one.host.failed and one.host.joiner)
            if one.guest is not None and one.guest.failed:
                assert one.guest.host is None
                assert one.guest.invitation is None

    def teardown(self) -> None:
        """A guess that reached the host has cost its code; a new code works, whatever came before."""
        if not hasattr(self, "tries"):
            return
        for one in self.tries:
            one.honestly()
            if one.guessed and one.heard:
                assert one.host.failed
        self.open_code()
        self.the_right_device_comes()
        self.now.honestly()
        self.the_host_agrees()
        self.now.honestly()
        assert self.now.guest is not None
        assert self.now.guest.invitation == self.now.invitation


Mailboxes.TestCase.settings = settings(stateful_step_count=25, deadline=None)
TestMailboxes = Mailboxes.TestCase
