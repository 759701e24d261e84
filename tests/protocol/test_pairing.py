"""Pairing: what comes of it with the right code, and that nothing comes of it otherwise."""

from __future__ import annotations

import msgspec
import pytest

from localmem_protocol.errors import PairingError
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.limits import LABEL_BYTES_MAX, PAIRING_BYTES_MAX
from localmem_protocol.pairing import Code, Host, Invitation, Joiner, Peer
from localmem_protocol.pairing_messages import (
    Answer,
    Introduction,
    Invite,
    Offer,
    decode_message,
    encode_message,
)
from support.pools import device_id, person
from support.seeded import SeededRandom

CODE = Code(27, "48219036")
HOST, JOINER = person(1), person(2)
INVITATION = Invitation("wss://hub.example/", "ab" * 16, 3, b"h" * 32, "token")


def sides(
    host_code: Code = CODE, joiner_code: Code = CODE, label: str = "laptop"
) -> tuple[Host, Joiner]:
    host = Host(host_code, HOST.keys, HOST.device, "desk", SeededRandom(1))
    return host, Joiner(joiner_code, JOINER.keys, JOINER.device, label, SeededRandom(2))


def sent(side: Host | Joiner) -> bytes:
    message = side.send()
    assert message is not None
    assert len(message) <= PAIRING_BYTES_MAX
    return message


def paired() -> tuple[Host, Joiner]:
    """Both sides, up to the invitation."""
    host, joiner = sides()
    host.receive(sent(joiner))
    joiner.receive(sent(host))
    host.receive(sent(joiner))
    return host, joiner


def nothing_came_of_it(host: Host, joiner: Joiner) -> None:
    assert host.joiner is None
    assert joiner.host is None
    assert joiner.invitation is None
    with pytest.raises(PairingError):
        host.invite(INVITATION)


def test_with_the_same_code_both_learn_of_the_other_and_the_joiner_is_invited() -> None:
    host, joiner = sides()
    assert host.send() is None
    host.receive(sent(joiner))
    joiner.receive(sent(host))
    assert joiner.host == Peer(HOST.device, HOST.keys.public, "desk")
    host.receive(sent(joiner))
    assert host.joiner == Peer(JOINER.device, JOINER.keys.public, "laptop")
    assert host.fingerprint == joiner.host.keys.fingerprint()
    assert joiner.fingerprint == host.joiner.keys.fingerprint()
    assert joiner.invitation is None
    host.invite(INVITATION)
    joiner.receive(sent(host))
    assert joiner.invitation == INVITATION
    assert host.send() is joiner.send() is None


def test_another_code_fails_on_both_sides_before_anything_is_known() -> None:
    for wrong in (Code(27, "48219037"), Code(28, "48219036")):
        host, joiner = sides(joiner_code=wrong)
        host.receive(sent(joiner))
        with pytest.raises(PairingError, match="codes differ"):
            joiner.receive(sent(host))
        with pytest.raises(PairingError, match="gave up"):
            host.receive(sent(joiner))
        assert host.failed
        assert joiner.failed
        nothing_came_of_it(host, joiner)


def test_a_failed_side_stays_failed() -> None:
    host, joiner = sides(joiner_code=Code(27, "00000000"))
    host.receive(sent(joiner))
    answer = sent(host)
    for _ in range(2):
        with pytest.raises(PairingError):
            joiner.receive(answer)
    right = sides()[1]
    with pytest.raises(PairingError):
        host.receive(sent(right))  # a second guess at the same host
    assert host.failed
    nothing_came_of_it(host, joiner)


def test_noise_ends_a_pairing_like_a_wrong_guess() -> None:
    host, joiner = sides()
    with pytest.raises(PairingError):
        host.receive(b"noise")
    with pytest.raises(PairingError, match="failed before"):
        host.receive(sent(joiner))
    nothing_came_of_it(host, joiner)


def test_one_joiner_for_each_host() -> None:
    host, joiner = paired()
    intruder = sides()[1]
    with pytest.raises(PairingError, match="out of turn"):
        host.receive(sent(intruder))
    nothing_came_of_it(host, intruder)
    assert joiner.invitation is None


def test_messages_out_of_turn_and_one_s_own_are_refused() -> None:
    host, joiner = sides()
    offer = sent(joiner)
    with pytest.raises(PairingError, match="out of turn"):
        joiner.receive(offer)
    other_host, other = sides()
    with pytest.raises(PairingError, match="out of turn"):
        other_host.receive(encode_message(Introduction(bytes(32), b"")))
    with pytest.raises(PairingError, match="out of turn"):
        other.receive(encode_message(Invite(b"")))
    host.receive(offer)
    answer = decode_message(sent(host))
    assert isinstance(answer, Answer)
    reflecting = sides()[1]
    own = decode_message(sent(reflecting))
    assert isinstance(own, Offer)
    with pytest.raises(PairingError):
        reflecting.receive(encode_message(Answer(own.element, answer.confirmation, answer.box)))


def test_elements_that_are_none_are_refused() -> None:
    for element in (b"\x01" + bytes(31), bytes(32), b"\xff" * 32, b"\x02" + bytes(31)):
        host, joiner = sides()
        with pytest.raises(PairingError):
            host.receive(encode_message(Offer(element)))
        nothing_came_of_it(host, joiner)


def test_every_altered_message_leaves_nothing_on_the_side_that_gets_it() -> None:
    for turn in range(4):
        for place in range(0, 150, 7):
            host, joiner = sides()
            _run(host, joiner, turn, place)


def _run(host: Host, joiner: Joiner, turn: int, place: int) -> None:
    """One pairing in which one byte of one message is altered."""
    for number in range(4):
        sender, receiver = ((joiner, host), (host, joiner))[number % 2]
        if number == 3:
            host.invite(INVITATION)
        message = bytearray(sent(sender))
        if number != turn:
            receiver.receive(bytes(message))
            continue
        message[place % len(message)] ^= 0x10
        try:
            receiver.receive(bytes(message))
        except PairingError:
            pass
        else:  # another element: seen as soon as the host's confirmation is there
            assert turn == 0
            with pytest.raises(PairingError):
                joiner.receive(sent(host))
            assert host.joiner is joiner.host is None
        assert joiner.invitation is None
        assert turn >= 3 or host.joiner is None
        return


def test_a_person_may_say_no() -> None:
    host, joiner = paired()
    host.abort()
    nothing = host.joiner
    assert nothing is None
    with pytest.raises(PairingError, match="gave up"):
        joiner.receive(sent(host))
    nothing_came_of_it(host, joiner)


def test_what_comes_after_the_end_changes_nothing() -> None:
    host, joiner = paired()
    host.invite(INVITATION)
    message = sent(host)
    joiner.receive(message)
    with pytest.raises(PairingError, match="after the end"):
        joiner.receive(message)
    joiner.abort()
    assert joiner.invitation == INVITATION
    with pytest.raises(PairingError):
        host.invite(INVITATION)


def test_an_invitation_is_for_one_joiner_alone() -> None:
    """Not even who knows the code afterwards, and everything that was said, opens it."""
    host, _ = paired()
    host.invite(INVITATION)
    message = sent(host)
    stranger = Joiner(CODE, person(3).keys, JOINER.device, "laptop", SeededRandom(2))
    watched, _ = sides()
    watched.receive(sent(stranger))
    stranger.receive(sent(watched))
    with pytest.raises(PairingError):
        stranger.receive(message)
    assert stranger.invitation is None


def test_a_copy_of_the_host_cannot_join_it() -> None:
    for keys, device in ((HOST.keys, device_id(9)), (JOINER.keys, HOST.device)):
        host = Host(CODE, HOST.keys, HOST.device, "desk", SeededRandom(1))
        twin = Joiner(CODE, keys, device, "desk", SeededRandom(2))
        host.receive(sent(twin))
        with pytest.raises(PairingError, match="same device"):
            twin.receive(sent(host))


def test_who_does_not_hold_the_keys_it_names_is_refused() -> None:
    host, joiner = sides()
    borrowed = DeviceKeys(JOINER.keys.signing, JOINER.keys.sealing)
    borrowed.__dict__["public"] = person(3).keys.public
    joiner._keys = borrowed
    host.receive(sent(joiner))
    joiner.receive(sent(host))
    with pytest.raises(PairingError, match="does not hold the keys"):
        host.receive(sent(joiner))
    assert host.joiner is None


@pytest.mark.parametrize("label", ["\x1b[31m", "a" * (LABEL_BYTES_MAX + 1), "\u202e", "\n"])
def test_a_label_that_cannot_be_shown_is_refused_on_both_sides(label: str) -> None:
    with pytest.raises(PairingError, match="label"):
        sides(label=label)
    host, joiner = sides()
    joiner._label = label
    host.receive(sent(joiner))
    joiner.receive(sent(host))
    with pytest.raises(PairingError):
        host.receive(sent(joiner))
    assert host.joiner is None


def test_an_invitation_has_bounds() -> None:
    host, _ = paired()
    for wrong in (
        msgspec.structs.replace(INVITATION, hub="x" * 1025),
        msgspec.structs.replace(INVITATION, pool="AB" * 16),
        msgspec.structs.replace(INVITATION, length=0),
        msgspec.structs.replace(INVITATION, head=b""),
    ):
        with pytest.raises(PairingError):
            host.invite(wrong)
    host.invite(msgspec.structs.replace(INVITATION, hub="x" * 1024, token="t" * 1024))
    sent(host)


@pytest.mark.parametrize(
    "text", ["27-4821-9036", " 27 4821 9036 ", "27-48219036", "27 – 4821 – 9036", "27- 4821-9036\n"]
)
def test_a_code_is_read_as_people_type_it(text: str) -> None:
    assert Code.parse(text) == CODE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "27",
        "4821-9036",
        "27-4821-903",
        "27-4821-90366",
        "0-4821-9036",
        "07-4821-9036",
        "1234567-4821-9036",
        "a7-4821-9036",
        "２７-4821-9036",
        "27-4821-9036-1",
        "x" * 10_000,
    ],
)
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(PairingError, match="27-4821-9036"):
        Code.parse(text)


def test_codes_are_fresh_and_not_shown_in_logs() -> None:
    random = SeededRandom(1)
    codes = {Code.generate(5, random) for _ in range(50)}
    assert len(codes) == 50
    for code in codes:
        assert Code.parse(str(code)) == code
        assert code.secret not in repr(code)
    for mailbox in (0, -1, 1_000_000):
        with pytest.raises(PairingError):
            Code.generate(mailbox, random)


def test_bytes_that_are_no_message_are_refused() -> None:
    good = encode_message(Offer(bytes(32)))
    for bad in (
        b"",
        b"\x00",
        bytes(PAIRING_BYTES_MAX + 1),
        good + b"\x00",
        b"\xdc\x00\x02" + good[1:],
    ):
        with pytest.raises(PairingError):
            decode_message(bad)
