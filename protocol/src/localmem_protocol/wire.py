"""Reading and writing the primitives of lib0, the encoding that Yjs uses.

A varuint is little-endian base 128 (LEB128), at most 53 bits, as JavaScript holds them. Source:
lib0's `encoding.js` and `decoding.js`. Reading checks every bound before it slices.
"""

from __future__ import annotations

from localmem_protocol.errors import RemoteError

VARUINT_MAX = 2**53 - 1


def varuint(value: int) -> bytes:
    """`value` as a varuint."""
    if value < 0x80:  # most are
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varbytes(data: bytes) -> bytes:
    """`data` behind its length."""
    return varuint(len(data)) + data


def zigzag(value: int) -> int:
    """A signed integer as an unsigned one that is small when it is."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    """The inverse of `zigzag`."""
    return value >> 1 if value & 1 == 0 else -((value + 1) >> 1)


class Reader:
    """A cursor over bytes that raises `error` instead of reading past the end."""

    def __init__(self, data: bytes, error: type[RemoteError]) -> None:
        self.data = data
        self.at = 0
        self.error = error

    def byte(self) -> int:
        """The next byte."""
        if self.at >= len(self.data):
            raise self.error("ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def varuint(self, most: int = VARUINT_MAX) -> int:
        """The next varuint; refused above `most`, and with more bytes than it needs."""
        at, data = self.at, self.data
        if at < len(data) and (small := data[at]) < 0x80 and small <= most:  # mostly
            self.at = at + 1
            return small
        value = shift = 0
        byte = 0x80
        while byte >= 0x80:
            if shift > 63:
                raise self.error("a number of more than 64 bits")
            if at >= len(data):
                raise self.error("ends too early")
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
        if shift > 7 and byte == 0:
            raise self.error("a number with more bytes than it needs")
        self.at = at
        if value > most:
            raise self.error(f"{value} is over the limit of {most}")
        return value

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self.at + size
        if end > len(self.data):
            raise self.error("ends too early")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def varbytes(self, most: int) -> bytes:
        """The next length and that many bytes, at most `most`."""
        return self.take(self.varuint(most))

    def text(self, most: int) -> str:
        """The next length-prefixed UTF-8 text of at most `most` bytes."""
        try:
            return self.varbytes(most).decode()
        except UnicodeDecodeError:
            raise self.error("text that is not UTF-8") from None

    def finish(self) -> None:
        """Refuse trailing bytes."""
        if self.at != len(self.data):
            raise self.error(f"{len(self.data) - self.at} bytes too many")
