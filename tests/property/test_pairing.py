"""Pairing over a line on which anything happens: something comes of it only if nothing did."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from localmem_protocol.errors import PairingError
from localmem_protocol.pairing import Code, Host, Invitation, Joiner
from support.pools import person
from support.seeded import SeededRandom

HOST, JOINER, STRANGER = person(1), person(2), person(3)
RIGHT = "48219036"
INVITATION = Invitation("wss://hub.example/", "ab" * 16, 3, b"h" * 32)

fates = st.lists(
    st.sampled_from(["deliver", "deliver", "drop", "alter", "replace", "twice", "noise"]),
    min_size=4,
    max_size=4,
)


class Line:
    """Both sides of one pairing, and a stranger's pairing with the right code, from which it takes."""

    def __init__(self, secret: str, data: st.DataObject) -> None:
        self.data = data
        self.host = Host(Code(27, RIGHT), HOST.keys, HOST.device, "desk", SeededRandom(1))
        code = Code(27, secret)
        self.joiner = Joiner(code, JOINER.keys, JOINER.device, "laptop", SeededRandom(2))
        self.elsewhere = elsewhere()
        self.honest = True

    def carry(self, turn: int, fate: str) -> None:
        sender, receiver = ((self.joiner, self.host), (self.host, self.joiner))[turn % 2]
        if turn == 3 and self.host.joiner is not None:
            self.host.invite(INVITATION)
        message = sender.send()
        if message is None or fate == "drop":
            self.honest = False
            return
        if fate == "alter":
            at = self.data.draw(st.integers(0, len(message) - 1))
            changed = bytearray(message)
            changed[at] ^= self.data.draw(st.integers(1, 255))
            message = bytes(changed)
        elif fate == "replace":
            message = self.elsewhere[turn]
        elif fate == "noise":
            message = self.data.draw(st.binary(max_size=100))
        self.honest &= fate in ("deliver", "twice")
        for _ in range(1 + (fate == "twice")):
            try:
                receiver.receive(message)
            except PairingError:
                self.honest &= fate == "twice" and turn == 3


def elsewhere() -> list[bytes]:
    """The messages of another pairing with the right code."""
    host = Host(Code(27, RIGHT), HOST.keys, HOST.device, "desk", SeededRandom(3))
    joiner = Joiner(Code(27, RIGHT), STRANGER.keys, STRANGER.device, "other", SeededRandom(4))
    messages: list[bytes] = []
    for turn in range(4):
        sender, receiver = ((joiner, host), (host, joiner))[turn % 2]
        if turn == 3:
            host.invite(INVITATION)
        message = sender.send() or b""
        messages.append(message)
        receiver.receive(message)
    return messages


@settings(max_examples=settings().max_examples // 2)
@given(st.sampled_from([RIGHT, "48219037", "00000000"]), fates, st.data())
def test_nothing_comes_of_a_pairing_unless_every_message_arrived_as_it_was_sent(
    secret: str, fates: list[str], data: st.DataObject
) -> None:
    line = Line(secret, data)
    for turn, fate in enumerate(fates):
        line.carry(turn, fate)
        good = line.honest and secret == RIGHT
        assert (line.joiner.invitation is not None) == (good and turn == 3)
        if turn >= 2:
            assert (line.host.joiner is not None) == good or turn == 3
        if not good and turn < 3:
            assert line.host.joiner is None
    if secret != RIGHT:
        assert line.host.joiner is None
        assert line.joiner.host is None
    if line.host.joiner is not None:
        assert line.host.joiner.device == JOINER.device
