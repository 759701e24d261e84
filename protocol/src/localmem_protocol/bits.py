"""Numbers in as few bits as they need, without saying how many those are.

A number is a Golomb-Rice code (Rice, "Some Practical Universal Noiseless Coding Techniques", 1979):
a quotient in unary, then `k` low bits. `k` follows from the numbers that the same column had before,
as in LOCO-I (Weinberger et al., "The LOCO-I Lossless Image Compression Algorithm", 2000), so that no
parameter travels and one number has one code. A quotient from QUOTIENT_MAX on is written in Elias'
gamma code behind that many ones, so that a night between two events costs bits, not bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from localmem_protocol.errors import BatchError

QUOTIENT_MAX: Final = 8
NUMBER_BITS_MAX: Final = 66
"""A zigzagged difference of two 64-bit numbers has 65."""

_REMEMBERED: Final = 32
_PIECE_BYTES: Final = 256


class Column:
    """What the numbers of one column are like so far; `k` is what is expected of the first."""

    __slots__ = ("_count", "_sum")

    def __init__(self, k: int = 0) -> None:
        self._sum = 2 << k if k else 1
        self._count = 1

    def copy(self) -> Column:
        """One that learns apart from this one."""
        other = Column()
        other._sum, other._count = self._sum, self._count
        return other

    @property
    def k(self) -> int:
        """How many low bits the next number's code has: 2**k is 0.5 to 1 times the mean."""
        return max(0, (-(-self._sum // self._count) - 1).bit_length() - 1)

    def note(self, number: int, k: int) -> None:
        """Learn from a number that was written with `k`; one far outlier counts for little."""
        self._sum += min(number, QUOTIENT_MAX + 1 << k + 1)
        self._count += 1
        if self._count >= _REMEMBERED:
            self._sum >>= 1
            self._count >>= 1


class BitWriter:
    """Bits in a row, most significant first."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def flat(self, number: int, width: int) -> None:
        """A number in `width` bits."""
        if width:
            self._parts.append(f"{number:0{width}b}")

    def number(self, column: Column, number: int) -> None:
        """A number of at least 0."""
        k = column.k
        quotient = number >> k
        if quotient < QUOTIENT_MAX:
            self._parts.append("1" * quotient + "0")
        else:
            rest = f"{quotient - QUOTIENT_MAX + 1:b}"
            self._parts.append("1" * QUOTIENT_MAX + "0" * (len(rest) - 1) + rest)
        self.flat(number & (1 << k) - 1, k)
        column.note(number, k)

    def numbers(self, column: Column, numbers: Sequence[int]) -> None:
        """A column; one bit if all of it is 0."""
        self.flat(int(any(numbers)), 1)
        if any(numbers):
            for number in numbers:
                self.number(column, number)

    def to_bytes(self) -> bytes:
        """All of it, filled with zeros to a whole byte."""
        bits = "".join(self._parts)
        size = -(-len(bits) // 8)
        return int(bits.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big")


class BitReader:
    """A cursor over the bits of `data`. Raises BatchError instead of reading past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._bits = ""
        self._at = 0  # in the bits that are here
        self._dropped = 0
        self._loaded = 0  # bytes

    @property
    def bytes_read(self) -> int:
        """How many bytes were begun."""
        return -(-(self._dropped + self._at) // 8)

    def flat(self, width: int) -> int:
        """The next `width` bits."""
        if not width:
            return 0
        self._load(width)
        end = self._at + width
        if end > len(self._bits):
            raise BatchError("ends too early")
        number = int(self._bits[self._at : end], 2)
        self._at = end
        return number

    def number(self, column: Column) -> int:
        """The next number."""
        k = column.k
        self._load(QUOTIENT_MAX + NUMBER_BITS_MAX)
        end = self._bits.find("0", self._at, self._at + QUOTIENT_MAX)
        quotient = end - self._at if end >= 0 else QUOTIENT_MAX
        self._at += quotient + (end >= 0)
        if end < 0:
            one = self._bits.find("1", self._at, self._at + NUMBER_BITS_MAX)
            if one < 0:
                raise BatchError("a number that is too long, or none")
            width = one - self._at + 1
            self._at = one
            quotient += self.flat(width) - 1
        number = quotient << k | self.flat(k)
        if number.bit_length() > NUMBER_BITS_MAX:
            raise BatchError(f"a number of more than {NUMBER_BITS_MAX} bits")
        column.note(number, k)
        return number

    def numbers(self, column: Column, count: int) -> list[int]:
        """A column of that many."""
        if not self.flat(1):
            return [0] * count
        return [self.number(column) for _ in range(count)]

    def _load(self, count: int) -> None:
        """Have the next `count` bits here, as far as there are so many."""
        if len(self._bits) - self._at >= count or self._loaded >= len(self._data):
            return
        piece = self._data[self._loaded : self._loaded + _PIECE_BYTES + count // 8]
        self._bits = self._bits[self._at :] + f"{int.from_bytes(piece, 'big'):0{8 * len(piece)}b}"
        self._dropped += self._at
        self._at = 0
        self._loaded += len(piece)
