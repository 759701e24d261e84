"""Compression of what stands alone, with a dictionary that ships with the protocol.

Records of the ring file are pieces. (Batches have a dictionary and a format of their own: `texts`.)

A compressed piece is one byte naming the dictionary, then a zstd frame (RFC 8878) without magic
number, dictionary id or checksum: what surrounds it is authenticated, so those bytes buy nothing.
Dictionary 0 is none. A dictionary, once shipped, never changes; a better one gets the next number
(`protocol/train_dictionary.py` makes them, from this repository's own sources).
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

import zstandard

from localmem_protocol.errors import BatchError

CURRENT: Final = 1
"""The dictionary that new pieces are compressed with."""

LEVEL: Final = 19
"""Pieces are small and written once a second at most; they are kept and sent many times."""


@cache
def dictionary(version: int) -> bytes:
    """The bytes of a shipped dictionary. Raises BatchError for one this release does not have."""
    if version == 0:
        return b""
    try:
        return (
            resources.files("localmem_protocol")
            .joinpath(f"dictionary_{version}.zdict")
            .read_bytes()
        )
    except FileNotFoundError:
        raise BatchError(f"compressed with dictionary {version}, newer than this release") from None


def compress(plain: bytes, *, history: bytes = b"", level: int = LEVEL) -> bytes:
    """`plain` compressed; `history` is text that whoever opens it has too (zstd prefix)."""
    compressor = zstandard.ZstdCompressor(
        dict_data=_digested(CURRENT, level) if not history else _prefix(CURRENT, history),
        compression_params=_parameters(level),
    )
    return bytes([CURRENT]) + compressor.compress(plain)


def decompress(piece: bytes, size_max: int, *, history: bytes = b"") -> bytes:
    """The inverse. Raises BatchError for altered bytes and for more than `size_max` of them."""
    return Decompressor().decompress(piece, size_max, history=history)


class Decompressor:
    """Opens many pieces; for one thread at a time. Setting one up takes longer than a piece."""

    def __init__(self) -> None:
        self._ready: dict[int, zstandard.ZstdDecompressor] = {}

    def decompress(self, piece: bytes, size_max: int, *, history: bytes = b"") -> bytes:
        """As the function of this name."""
        if not piece:
            raise BatchError("empty compressed piece")
        frame = piece[1:]
        try:
            # Every frame of ours states its size, so a bomb is refused before it is unpacked.
            parameters = zstandard.get_frame_parameters(
                frame, format=zstandard.FORMAT_ZSTD1_MAGICLESS
            )
            if not 0 <= parameters.content_size <= size_max:
                raise BatchError(f"unpacks to more than {size_max} bytes")
            return self._with(piece[0], history).decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise BatchError(f"does not decompress: {error}") from None

    def _with(self, version: int, history: bytes) -> zstandard.ZstdDecompressor:
        if history:
            return _decompressor(_prefix(version, history))
        ready = self._ready.get(version)
        if ready is None:
            ready = self._ready[version] = _decompressor(_digested(version, LEVEL))
        return ready


def _decompressor(data: zstandard.ZstdCompressionDict | None) -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(dict_data=data, format=zstandard.FORMAT_ZSTD1_MAGICLESS)


def _parameters(level: int) -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(
        level,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
    )


@cache
def _digested(version: int, level: int) -> zstandard.ZstdCompressionDict | None:
    data = dictionary(version)
    if not data:
        return None
    digested = zstandard.ZstdCompressionDict(data)
    digested.precompute_compress(compression_params=_parameters(level))
    return digested


def _prefix(version: int, history: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(
        dictionary(version) + history, dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )
