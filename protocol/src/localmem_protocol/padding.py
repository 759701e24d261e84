"""Padding sealed batches, so that their lengths tell less of what is in them.

The length of what was compressed before it was sealed depends on what it says. A pool may spend
bytes on hiding that: every length is then one of few. Padmé (Nikitin et al., "Reducing Metadata
Leakage from Encrypted Files and Communication with PURBs", 2019) costs at most 12 % and lets
through the order of magnitude of the order of magnitude; powers of two cost up to 100 % and let
through the order of magnitude.
"""

from __future__ import annotations

from enum import Enum

from localmem_protocol.errors import SealError

_END = b"\x80"


class Padding(Enum):
    """Which lengths there are."""

    NONE = "none"
    PADME = "padme"
    POWERS = "powers"


def bucket(size: int, padding: Padding) -> int:
    """The smallest of the allowed lengths that is at least `size`, which is 1 or more."""
    if padding is Padding.POWERS:
        return 1 << (size - 1).bit_length()
    exponent = size.bit_length() - 1
    if padding is Padding.NONE or exponent < 2:
        return size
    free = (1 << exponent - exponent.bit_length()) - 1
    return size + free & ~free


def pad(plain: bytes, padding: Padding) -> bytes:
    """`plain`, a one bit, zeros up to a bucket (ISO/IEC 7816-4)."""
    return (plain + _END).ljust(bucket(len(plain) + 1, padding), b"\x00")


def unpad(padded: bytes) -> bytes:
    """The inverse of `pad`, whichever buckets there are. Raises SealError."""
    plain = padded.rstrip(b"\x00")
    if not plain.endswith(_END):
        raise SealError("padding that does not end")
    return plain[: -len(_END)]
