"""The recovery code: the private half of a store's recovery key as text to write down.

56 letters and digits of base32 (RFC 4648, section 6) in groups of four: the 32-byte key, then three
bytes of its SHA-256, so that a slip of the pen shows.
"""

from __future__ import annotations

import hashlib
from base64 import b32decode, b32encode
from typing import Final

from localmem_node.errors import ConfigError
from localmem_node.store.vault import KEY_BYTES

CHECK_BYTES: Final = 3
GROUP: Final = 4


def encode_recovery(private: bytes) -> str:
    """The code of a private key."""
    text = b32encode(private + _check(private)).decode()
    return "-".join(text[at : at + GROUP] for at in range(0, len(text), GROUP))


def decode_recovery(code: str) -> bytes:
    """The private key of a code, however it is spaced or cased. Raises ConfigError."""
    text = "".join(character for character in code.upper() if character not in " -\t\r\n")
    text = text.replace("0", "O").replace("1", "I")  # neither digit is in the alphabet
    try:
        raw = b32decode(text)
    except ValueError:
        raw = b""
    private, check = raw[:KEY_BYTES], raw[KEY_BYTES:]
    if len(private) != KEY_BYTES or check != _check(private):
        raise ConfigError(
            "recovery code: is not one (14 groups of 4 letters and digits); check it for slips"
        )
    return private


def _check(private: bytes) -> bytes:
    return hashlib.sha256(b"localmem recovery " + private).digest()[:CHECK_BYTES]
