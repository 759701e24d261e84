"""Updates in Yjs' format that no client makes, and that a CRDT library does not survive."""

from __future__ import annotations

from localmem_protocol.wire import varbytes, varuint

_ROOT = b"\x01" + varbytes(b"t")


def quarrel(clients: int) -> bytes:
    """As many clients that insert one letter at one place, each known after the one before it: placing
    each means passing all that are there."""
    out = [varuint(clients)]
    for client in range(clients, 0, -1):
        after = (
            b"\x84" + varuint(client - 1) + b"\x00" if client > 1 else b"\x04\x01" + varbytes(b"c")
        )
        out.append(varuint(2) + varuint(client) + b"\x00" + after + varbytes(b"o"))
        out.append(b"\x04" + _ROOT + varbytes(b"x"))
    return b"".join([*out, b"\x00"])


def nested(client: int, depth: int) -> bytes:
    """Maps in each other; taking the outermost away takes the library as many calls of itself."""
    out = [varuint(1), varuint(depth), varuint(client), varuint(0)]
    out.append(b"\x27" + _ROOT + varbytes(b"k") + b"\x01")
    parents = (varuint(client) + varuint(clock) for clock in range(depth - 1))
    out += (b"\x27\x00" + parent + varbytes(b"k") + b"\x01" for parent in parents)
    return b"".join([*out, b"\x00"])


def erase(client: int, clock: int, length: int = 1) -> bytes:
    """An update that deletes, and nothing else."""
    return b"\x00\x01" + varuint(client) + b"\x01" + varuint(clock) + varuint(length)


def letter(client: int, clock: int, text: str = "x", root: bytes = b"text") -> bytes:
    """An update with letters at the end of a client's own."""
    origin = varuint(client) + varuint(clock - 1) if clock else b"\x01" + varbytes(root)
    info = b"\x84" if clock else b"\x04"
    head = b"\x01\x01" + varuint(client) + varuint(clock)
    return head + info + origin + varbytes(text.encode()) + b"\x00"
