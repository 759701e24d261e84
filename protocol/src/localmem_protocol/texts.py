"""The text of a batch, compressed by zstd against a dictionary and what the segment said before.

A prefix alone would cost every batch its own entropy tables, 50 to 100 bytes. So the segment's text
is appended to the content of the shipped dictionary, whose tables then serve every batch.

Nearly every text becomes one block (RFC 8878, section 3.1.1.2.3), whose frame and block headers
follow from its length; they do not travel. A block unpacks to at most 128 KiB.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from importlib import resources
from typing import Final

import zstandard

from localmem_protocol.errors import BatchError

DICTIONARY: Final = 2
"""The dictionary of this version of batches; another one comes with another version."""

LEVEL: Final = 19

_BLOCK_BYTES_MAX: Final = 128 * 1024
_WINDOW_LOG: Final = 20
_FRAME_HEADER: Final = bytes([0, (_WINDOW_LOG - 10) << 3])
_BLOCK_HEADER_BYTES: Final = 3
_LAST, _COMPRESSED = 1, 2


class Form(IntEnum):
    """How a text is written."""

    PLAIN = 0
    BLOCK = 1
    FRAME = 2


def compress_text(text: bytes, history: bytes) -> tuple[Form, bytes]:
    """The shortest form of a text for those who have `history`."""
    if not text:
        return Form.PLAIN, b""
    data = _dictionary(history)
    frame = zstandard.ZstdCompressor(dict_data=data, compression_params=_parameters()).compress(
        text
    )
    forms = [(Form.PLAIN, text)]
    block = _only_block(frame)
    if block is not None:
        forms.append((Form.BLOCK, block))
    else:
        forms.append((Form.FRAME, frame))
    return min(forms, key=lambda form: len(form[1]))


def decompress_text(form: int, piece: bytes, size_max: int, history: bytes) -> bytes:
    """The inverse. Raises BatchError for altered bytes and for more than `size_max` of them."""
    if form == Form.PLAIN:
        if len(piece) > size_max:
            raise BatchError(f"a text of more than {size_max} bytes")
        return piece
    if form == Form.BLOCK:
        header = (len(piece) << 3 | _COMPRESSED << 1 | _LAST).to_bytes(8, "little")
        frame = _FRAME_HEADER + header[:_BLOCK_HEADER_BYTES] + piece
        size_max = min(size_max, _BLOCK_BYTES_MAX)
        if len(piece) > _BLOCK_BYTES_MAX:
            raise BatchError("a block that is too long")
    elif form == Form.FRAME:
        frame = piece
    else:
        raise BatchError(f"a text in the unknown form {form}")
    try:
        if form == Form.FRAME:
            # It states its size, so a bomb is refused before it is unpacked.
            parameters = zstandard.get_frame_parameters(
                frame, format=zstandard.FORMAT_ZSTD1_MAGICLESS
            )
            if not 0 <= parameters.content_size <= size_max:
                raise BatchError(f"unpacks to more than {size_max} bytes")
        return zstandard.ZstdDecompressor(
            dict_data=_dictionary(history), format=zstandard.FORMAT_ZSTD1_MAGICLESS
        ).decompress(frame, max_output_size=size_max, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BatchError(f"does not decompress: {error}") from None


def _only_block(frame: bytes) -> bytes | None:
    """What is in the one compressed block of a frame of ours; None if it is made otherwise."""
    parameters = zstandard.get_frame_parameters(frame, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    if parameters.content_size > _BLOCK_BYTES_MAX:
        return None
    start = zstandard.frame_header_size(b"\x28\xb5\x2f\xfd" + frame) - 4
    header = int.from_bytes(frame[start : start + _BLOCK_HEADER_BYTES], "little")
    if header & 0b111 != _COMPRESSED << 1 | _LAST:
        return None
    return frame[start + _BLOCK_HEADER_BYTES :]


@cache
def shipped() -> bytes:
    """The shipped dictionary: entropy tables, then content."""
    return (
        resources.files("localmem_protocol").joinpath(f"dictionary_{DICTIONARY}.zdict").read_bytes()
    )


def _dictionary(history: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(
        shipped() + history, dict_type=zstandard.DICT_TYPE_FULLDICT
    )


@cache
def _parameters() -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(
        LEVEL,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
    )
