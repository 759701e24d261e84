"""A vector index with its graph as one file, to be loaded or mapped.

A node does not use this: its store is sealed, and this file gives the vectors away, from which much of
the texts can be guessed. It is there for programs that keep an index of their own, and for the
benchmark.

    magic | length of the header, u32 | header, JSON | CRC-32 of header and rest, u32
    present, u8 by slot | scales, f32 by slot | codes, int8 by slot | the graph
"""

from __future__ import annotations

import mmap
import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from localmem_node.errors import DamagedIndex
from localmem_node.files import write_private
from localmem_node.retrieval.graph import Graph, GraphIndex
from localmem_node.retrieval.quantised import QuantisedIndex
from localmem_node.retrieval.slots import SLOTS_MAX

MAGIC: Final = b"localmem graph 1\n"
_NUMBER: Final = struct.Struct("<I")
_HEADER_BYTES_MAX: Final = 1024
_ALIGNMENT: Final = 64


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    backend: str
    dimensions: int
    slots: int


def save(index: GraphIndex, path: Path) -> None:
    """Replace the file at `path` whole, mode 0600, in the clear. Raises OSError."""
    present, scales, codes = index.rows.arrays()
    body = b"".join(
        (present.tobytes(), scales.astype("<f4").tobytes(), codes.tobytes(), index.graph.dump())
    )
    header = msgspec.json.encode(_Header(index.graph.name, index.dimensions, len(present)))
    # Spaces, so that the body is aligned wherever it is mapped.
    start = len(MAGIC) + 2 * _NUMBER.size + len(header)
    header += b" " * (-start % _ALIGNMENT)
    parts = (MAGIC, _NUMBER.pack(len(header)), header, _checksum(header, body), body)
    write_private(path, b"".join(parts))


def load(path: Path, graph: Graph, *, mapped: bool = False) -> GraphIndex:
    """The index in a file, with its graph in `graph`, an empty one of the backend that saved it.

    `mapped`: the vectors stay in the file, and the index cannot be changed; the file must not be
    written to meanwhile, only replaced. Raises DamagedIndex for anything but a whole file of
    `save`, ValueError if the backend cannot map, OSError.
    """
    with path.open("rb") as file:
        data = memoryview(
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if mapped and path.stat().st_size
            else file.read()
        )
    header, body = _parts(path, data)
    if header.backend != graph.name:
        raise DamagedIndex(
            f"{path}: was saved by {header.backend}, not {graph.name}; build it anew"
        )
    slots, dimensions = header.slots, header.dimensions
    if dimensions != graph.dimensions:
        raise DamagedIndex(f"{path}: has vectors of {dimensions} dimensions; build it anew")
    size = slots * (1 + 4 + dimensions)
    if not (0 <= slots <= SLOTS_MAX and size <= len(body)):
        raise DamagedIndex(f"{path}: its sizes contradict each other; build it anew")
    present = np.frombuffer(body, np.bool_, slots)
    scales = np.frombuffer(body, "<f4", slots, offset=slots).astype(np.float32)
    codes = np.frombuffer(body, np.int8, slots * dimensions, offset=5 * slots)
    codes = codes.reshape(slots, dimensions)
    rows = QuantisedIndex.of(present.copy(), scales, codes if mapped else codes.copy())
    graph.load(body[size:], mapped=mapped)
    return GraphIndex(rows, graph)


def _parts(path: Path, data: memoryview) -> tuple[_Header, memoryview]:
    """Header and checked body; the libraries would believe whatever stands in a graph."""
    try:
        if bytes(data[: len(MAGIC)]) != MAGIC:
            raise DamagedIndex(f"{path}: is not a saved graph")
        at = len(MAGIC) + _NUMBER.size
        (length,) = _NUMBER.unpack(data[at - _NUMBER.size : at])
        if length > _HEADER_BYTES_MAX:
            raise DamagedIndex(f"{path}: has a damaged header; build it anew")
        header, at = data[at : at + length], at + length + _NUMBER.size
        if _checksum(header, data[at:]) != bytes(data[at - _NUMBER.size : at]):
            raise DamagedIndex(f"{path}: is damaged; build it anew")
        return msgspec.json.decode(header, type=_Header), data[at:]
    except (struct.error, msgspec.DecodeError):
        raise DamagedIndex(f"{path}: has a damaged header; build it anew") from None


def _checksum(header: bytes | memoryview, body: bytes | memoryview) -> bytes:
    return _NUMBER.pack(zlib.crc32(body, zlib.crc32(header)))
