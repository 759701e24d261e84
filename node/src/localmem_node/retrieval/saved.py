"""An index as bytes: everything but the vectors, which the store keeps."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.contents import Contents
from localmem_node.retrieval.lexical import LexicalIndex
from localmem_node.retrieval.sessions import Sessions
from localmem_node.retrieval.slots import grown
from localmem_node.retrieval.traits import Traits, TraitTable, are_sound, kind_code
from localmem_node.seams import VectorIndex

VERSION: Final = 2


class Dump(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What is kept of an index besides its vectors. `slots` ascending; the others a row per slot."""

    version: int
    words: bytes
    slots: bytes  # uint32
    traits: bytes  # Traits
    sessions: list[str]
    session_of: bytes  # int32, a place in `sessions` or -1


def dumped(contents: Contents) -> bytes:
    """All but the vectors, for `loaded`."""
    slots = np.array(contents.lexical.slots(), np.int64)
    labels, places = contents.sessions.labels(slots)
    return msgspec.msgpack.encode(
        Dump(
            version=VERSION,
            words=contents.lexical.dump(),
            slots=slots.astype("<u4").tobytes(),
            traits=contents.traits.rows[slots].tobytes(),
            sessions=labels,
            session_of=places.astype("<i4").tobytes(),
        )
    )


def loaded(data: bytes, newness: npt.NDArray[np.uint64], vectors: VectorIndex) -> Contents:
    """What was dumped, with room in `vectors`, but without any.

    `newness` as in `Contents`. Raises DamagedIndex.
    """
    dump = _checked(data)
    slots = np.frombuffer(dump.slots, "<u4").astype(np.int64)
    width = int(slots.max(initial=-1)) + 1
    contents = Contents(vectors, lexical=LexicalIndex.load(dump.words))
    if contents.lexical.slots() != slots.tolist() or newness.shape[1] < width:
        raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
    vectors.reserve(width)
    contents.reserve(width)
    contents.live[slots] = True
    contents.newness[:, slots] = newness[:, slots]
    rows = np.frombuffer(dump.traits, Traits)
    contents.traits = TraitTable(grown(np.zeros(0, Traits), width))
    contents.traits.rows[slots] = rows
    places = np.frombuffer(dump.session_of, "<i4").astype(np.int64)
    is_prompt = rows["kind"] == kind_code("prompt")
    contents.sessions = Sessions.load(slots, dump.sessions, places, is_prompt, contents.newness)
    if len(rows):
        times = rows["timestamp"]
        contents.oldest, contents.newest = int(times.min()), int(times.max())
    return contents


def _checked(data: bytes) -> Dump:
    try:
        dump = msgspec.msgpack.decode(data, type=Dump)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedIndex(f"the saved index does not parse ({error}); it is rebuilt") from None
    if dump.version != VERSION:
        raise DamagedIndex("the saved index is of another version; it is rebuilt")
    count = len(dump.slots) // 4
    sound = len(dump.slots) == len(dump.session_of) == 4 * count
    sound = sound and len(dump.traits) == Traits.itemsize * count
    sound = sound and are_sound(np.frombuffer(dump.traits, Traits))
    if sound:
        places = np.frombuffer(dump.session_of, "<i4")
        sound = (
            int(places.min(initial=0)) >= -1
            and int(places.max(initial=-1)) < len(dump.sessions)
            and len(np.unique(places[places >= 0])) == len(set(dump.sessions)) == len(dump.sessions)
        )
    if not sound:
        raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
    return dump
