"""Any bytes as roster entries, pairing messages, signed heads, sealed keys and private keys.

Each `check_…` takes bytes, as a fuzzer or a seed makes them, and raises unless they are refused with
an error of the protocol or are exactly what they decode to. Each says which it was.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final

from localmem_protocol.entries import decode_entry, encode_entry, sign_entry
from localmem_protocol.epoch_keys import unseal_key
from localmem_protocol.errors import (
    HeadError,
    KeysError,
    PairingError,
    PhraseError,
    RosterError,
    SealError,
    SignatureError,
)
from localmem_protocol.heads import Position, decode_compact, decode_head, sign_head
from localmem_protocol.keys import DeviceKeys, PublicKeys
from localmem_protocol.pairing import Code, Host, Invitation, Joiner
from localmem_protocol.pairing_messages import decode_message, encode_message
from localmem_protocol.recovery import recovery_keys
from localmem_protocol.roster import Roster, rename, rotate, set_role
from support.pools import NOW, device_id, person, pool
from support.seeded import SeededRandom

_AT: Final = Position("ab" * 16, 1, 1, 16, bytes(16), 120, 280)
_CODE: Final = Code(27, "48219036")


@cache
def _pool() -> tuple[tuple[bytes, ...], bytes]:
    """The log of a pool, and an entry that goes on from it."""
    made = pool("member", "reader")
    return tuple(made.log), encode_entry(rotate(made.roster, person(0), made.random, NOW))


def check_entry(data: bytes) -> str:
    """An entry: parsed, signed again by the owner so that it gets behind the signature, applied."""
    log, _ = _pool()
    roster = Roster.load(log, verified=len(log))
    tip, members = roster.tip, roster.membership
    try:
        entry = decode_entry(data)
    except RosterError as error:
        return type(error).__name__
    assert encode_entry(entry) == data
    taken = "valid"
    for one in (entry, sign_entry(entry, person(0).keys)):
        try:
            roster.apply(one)
        except RosterError as error:
            taken = type(error).__name__
            if "\n" in str(error) or (roster.tip, roster.membership) != (tip, members):
                raise AssertionError("refused, and changed or badly said") from error
        else:
            roster.epoch_keys(person(1).keys, device_id(1))
            return "applied"
    return taken


def check_log(data: bytes) -> str:
    """A first entry: what nobody knows yet."""
    try:
        roster = Roster.load([data])
    except RosterError as error:
        return type(error).__name__
    assert roster.length == 1
    return "applied"


def check_pairing(data: bytes) -> str:
    """A message, to a side in every state in which it can be."""
    try:
        assert encode_message(decode_message(data)) == data
        said = "valid"
    except PairingError:
        said = "refused"
    for turn in range(4):
        host, joiner, sent = _paired(turn)
        receiver = (host, joiner)[turn % 2]
        try:
            receiver.receive(data)
        except PairingError:
            assert receiver.failed
        else:
            assert data == sent or (turn == 0 and said == "valid")
    return said


def _paired(turns: int) -> tuple[Host, Joiner, bytes]:
    """Both sides after some messages, and the next one."""
    host = Host(_CODE, person(1).keys, device_id(1), "desk", SeededRandom(1))
    joiner = Joiner(_CODE, person(2).keys, device_id(2), "laptop", SeededRandom(2))
    for turn in range(4):
        sender, receiver = ((joiner, host), (host, joiner))[turn % 2]
        if turn == 3:
            host.invite(Invitation("wss://hub.example/", "ab" * 16, 3, bytes(32)))
        message = sender.send() or b""
        if turn == turns:
            return host, joiner, message
        receiver.receive(message)
    raise ValueError("a pairing has four messages")


def check_head(data: bytes) -> str:
    """A signed head in both forms."""
    said = "HeadError"
    for decode in (decode_head, lambda data: decode_compact(data, "ab" * 16, 1, 1, 16, bytes(16))):
        try:
            signed = decode(data)
        except HeadError:
            continue
        assert data in (signed.encode(), signed.compact())
        said = "valid"
        try:
            signed.verify(device_id(1), person(1).keys.public)
        except SignatureError:
            continue
        said = "verified"
    return said


def check_keys(data: bytes) -> str:
    """Keys, sealed keys, codes and phrases."""
    me = person(1)
    said = "refused"
    with suppress(SealError):
        unseal_key(data, bytes(32), b"s", 1, me.device, me.keys)
    for parse in (PublicKeys.from_bytes, DeviceKeys.from_bytes):
        try:
            assert parse(data).to_bytes() == data
            said = "keys"
        except KeysError:
            continue
    text = data.decode(errors="replace")
    for read, error in ((Code.parse, PairingError), (recovery_keys, PhraseError)):
        try:
            read(text)
            said = "typed"
        except error:
            continue
    return said


def samples() -> dict[Callable[[bytes], str], list[bytes]]:
    """What is valid, to begin from, for each of the checks."""
    log, following = _pool()
    made = pool("member", "reader")
    owner = person(0)
    entries = [
        following,
        encode_entry(rename(made.roster, owner, made.random, NOW, device_id(1), "x")),
        encode_entry(set_role(made.roster, owner, made.random, NOW, device_id(1), "reader")),
        *log,
    ]
    head = sign_head(_AT, device_id(1), person(1).keys)
    return {
        check_entry: entries,
        check_log: [log[0]],
        check_pairing: [_paired(turn)[2] for turn in range(4)] + [b"\x91\x04"],
        check_head: [head.encode(), head.compact()],
        check_keys: [
            person(1).keys.to_bytes(),
            person(1).keys.public.to_bytes(),
            str(_CODE).encode(),
            b"abandon " * 23 + b"art",
        ],
    }


def mutated(source: bytes, random: SeededRandom) -> bytes:
    """A sample with some bytes changed, cut out, doubled or put in."""
    data = bytearray(source)
    for _ in range(1 + random.below(3)):
        at, size = random.below(len(data) + 1), random.below(5)
        match random.below(5):
            case 0 if at < len(data):
                data[at] ^= 1 << random.below(8)
            case 1 if at < len(data):
                data[at] = random.choice([0, 1, 0x7F, 0x80, 0x90, 0xC4, 0xDD, 0xFF])
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + 8 * size]
            case _:
                data[at:at] = random.token_bytes(size)
    return bytes(data)
