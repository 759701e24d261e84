"""A sealed export: any bytes under a passphrase, in chunks, without holding them in memory.

    header   magic "localmem-sealed\\n" │ u32 version │ Argon2id: u32 memory in KiB, u32 passes,
             u32 lanes │ 16 bytes salt │ 32 bytes key check │ u32 crc32 of everything before
    chunk    65536 bytes of the text (the last one 0 to 65536), sealed: ciphertext, 16-byte tag

Chunks follow the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, "Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015): AES-256-GCM, and the
nonce is the chunk's number (88 bits, big-endian) and a byte that is 1 for the last. So a chunk that
is altered, moved, doubled, dropped, or cut off at the end does not open. The key belongs to the file:
Argon2id of the passphrase and a random salt, then HKDF-SHA256 over everything fixed in the header.
The key check follows from it too; with it a file opens under one passphrase only, which GCM alone
does not promise (Len, Grubbs, Ristenpart, "Partitioning Oracle Attacks", 2021), and a wrong
passphrase is told from damage. The checksum tells that apart before anything costly is done.
"""

from __future__ import annotations

import hmac
import io
import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localmem_node.errors import DamagedExport, WrongExportVersion, WrongPassphrase
from localmem_node.store.keys import DEFAULT_COST, PassphraseStore
from localmem_node.store.layout import Cost
from localmem_protocol.seams import Random

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAGIC: Final = b"localmem-sealed\n"
VERSION: Final = 1
CHUNK_BYTES: Final = 64 * 1024
TAG_BYTES: Final = 16
SALT_BYTES: Final = 16
KEY_BYTES: Final = 32

_FIXED: Final = struct.Struct(f"<{len(MAGIC)}sIIII{SALT_BYTES}s")
_CHECKSUM: Final = struct.Struct("<I")
HEADER_BYTES: Final = _FIXED.size + KEY_BYTES + _CHECKSUM.size
VERSION_END: Final = len(MAGIC) + 4


class Sealer:
    """Seals what is written to it, chunk by chunk; `finish` ends it."""

    def __init__(self, write: Callable[[bytes], object], key: bytes) -> None:
        """`key` is 32 bytes that seal nothing else; `seal_under` makes one from a passphrase."""
        self._write = write
        self._cipher = AESGCM(key)
        self._text = bytearray()
        self._number = 0

    def write(self, data: bytes) -> None:
        """Take bytes; whole chunks go out."""
        self._text += data
        while len(self._text) > CHUNK_BYTES:  # one is kept back: it may be the last
            self._chunk(bytes(self._text[:CHUNK_BYTES]), last=False)
            del self._text[:CHUNK_BYTES]

    def finish(self) -> None:
        """The last chunk."""
        self._chunk(bytes(self._text), last=True)
        self._text.clear()

    def _chunk(self, text: bytes, *, last: bool) -> None:
        self._write(self._cipher.encrypt(_nonce(self._number, last=last), text, None))
        self._number += 1


class Unsealer(io.RawIOBase):
    """The bytes that a Sealer took, read from where its chunks begin.

    Every byte that it hands out was sealed at this place; at the end, nothing is missing. Raises
    DamagedExport naming the chunk, counted from 1.
    """

    def __init__(self, stream: BinaryIO, key: bytes) -> None:
        super().__init__()
        self._stream = stream
        self._cipher = AESGCM(key)
        self._number = 0
        self._text = b""
        self._ahead = stream.read(CHUNK_BYTES + TAG_BYTES)
        self._ended = False

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill some of `buffer`; 0 at the end."""
        while not self._text and not self._ended:
            self._text = self._next()
        view = memoryview(buffer)
        size = min(len(view), len(self._text))
        view[:size] = self._text[:size]
        self._text = self._text[size:]
        return size

    def _next(self) -> bytes:
        chunk, self._ahead = self._ahead, self._stream.read(CHUNK_BYTES + TAG_BYTES)
        self._ended = not self._ahead
        self._number += 1
        try:
            nonce = _nonce(self._number - 1, last=self._ended)
            return self._cipher.decrypt(nonce, chunk, None)
        except (InvalidTag, ValueError):
            end = ", or the file was cut off after it" if self._ended else ""
            raise DamagedExport(
                f"chunk {self._number} of the sealed text: was altered or is out of place{end}"
            ) from None


def seal_under(
    passphrase: str,
    write: Callable[[bytes], object],
    random: Random,
    cost: Cost = DEFAULT_COST,
) -> Sealer:
    """A Sealer under a passphrase, its header written. Raises KeyUnavailable."""
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        cost.memory_kib,
        cost.iterations,
        cost.lanes,
        random.token_bytes(SALT_BYTES),
    )
    key, check = _keys(passphrase, fixed)
    write(_with_checksum(fixed + check))
    return Sealer(write, key)


def open_key(passphrase: str, header: bytes) -> bytes:
    """The key of a sealed export, from its first HEADER_BYTES.

    Raises WrongPassphrase, DamagedExport, WrongExportVersion; KeyUnavailable for a cost that is out
    of bounds or cannot be paid.
    """
    if len(header) >= VERSION_END:
        version = int.from_bytes(header[len(MAGIC) : VERSION_END], "little")
        if version != VERSION:
            raise WrongExportVersion(
                f"a sealed export of version {version}, and this localmem opens version {VERSION}; "
                "use the localmem that it comes from, or a newer one"
            )
    content = header[: -_CHECKSUM.size]
    if len(header) != HEADER_BYTES or _with_checksum(content) != header:
        raise DamagedExport("the header of the sealed text: was altered or cut off")
    fixed, check = content[: _FIXED.size], content[_FIXED.size :]
    key, expected = _keys(passphrase, fixed)
    if not hmac.compare_digest(check, expected):
        raise WrongPassphrase("the passphrase does not open it")
    return key


def _keys(passphrase: str, fixed: bytes) -> tuple[bytes, bytes]:
    """(key of the chunks, key check)."""
    _, _, memory_kib, iterations, lanes, salt = _FIXED.unpack(fixed)
    cost = Cost(memory_kib, iterations, lanes)
    stretched = PassphraseStore(passphrase).derive(salt, cost)
    derive = HKDF(
        algorithm=hashes.SHA256(), length=2 * KEY_BYTES, salt=None, info=b"localmem export " + fixed
    )
    both = derive.derive(stretched)
    return both[:KEY_BYTES], both[KEY_BYTES:]


def _with_checksum(content: bytes) -> bytes:
    return content + _CHECKSUM.pack(zlib.crc32(content))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
