"""The references of one document: where they are, and which event each stands for, as far as is known.

A reference is known by its *name*, a keyed hash of all that follows into the id of its event. Once its
text was found it has a *mark*, the tombstone that would stand for that event: what was forgotten is
found by it. Names and marks say nothing to anybody without the pool's key, so that a journal may hold
them (`Journal.remember`). The references themselves are kept only while they wait for their text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import msgspec

from localmem_protocol.events import Event
from localmem_protocol.references import Reference, refer
from localmem_protocol.updates import Id
from localmem_protocol.wants import Want

NAME_BYTES: Final = 16

BURIED_MAX: Final = 4096
"""Names of references to what was forgotten that are remembered, the newest: 32 bytes each. A copy of
such a reference may come once more, from somebody who could not tell what it stands for."""

_PERSON: Final = b"localmem-refer-1"
_NAMING: Final = tuple(one for one in Reference.__struct_fields__ if one != "pinned")


@dataclass(slots=True)
class _Held:
    places: list[Id]
    mark: bytes | None = None


@dataclass
class Referenced:
    """`key` is the pool's `reference_key()`; `known` has the marks of names that are about to come.

    `waiting` are the live references whose text was not found, by name; `buried` the marks of those
    that stand for what was forgotten, whether they are live or not.
    """

    key: bytes
    known: dict[bytes, bytes] = field(default_factory=dict)
    waiting: dict[bytes, Reference] = field(default_factory=dict)
    buried: dict[bytes, bytes] = field(default_factory=dict)
    _held: dict[bytes, _Held] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        """Whether a reference of this name is live."""
        return name in self._held

    def name(self, reference: Reference) -> bytes:
        """What a reference is known by; NAME_BYTES. Whether it is pinned is no part of it."""
        data = msgspec.msgpack.encode([getattr(reference, one) for one in _NAMING])
        return blake2b(data, digest_size=NAME_BYTES, key=self.key, person=_PERSON).digest()

    def name_of(self, event: Event) -> bytes | None:
        """The name of the reference to an event; None if there can be none."""
        reference = refer(event, self.key)
        return None if reference is None else self.name(reference)

    def places(self, name: bytes | None) -> Sequence[Id]:
        """Where references of a name are live."""
        held = None if name is None else self._held.get(name)
        return () if held is None else held.places

    def add(self, place: Id, references: Sequence[Reference]) -> tuple[bytes, ...]:
        """A live batch has these: their names."""
        names = tuple(map(self.name, references))
        for name, reference in zip(names, references, strict=True):
            held = self._held.get(name)
            if held is not None:
                held.places.append(place)
                continue
            mark = self.known.get(name) or self.buried.get(name)
            self._held[name] = _Held([place], mark)
            if mark is None:
                self.waiting[name] = reference
        return names

    def drop(self, place: Id, names: Iterable[bytes]) -> None:
        """The batch there is not live any more."""
        for name in names:
            held = self._held.get(name)
            if held is None or place not in held.places:
                continue
            held.places.remove(place)
            if not held.places:
                del self._held[name]
                self.waiting.pop(name, None)

    def mark(self, name: bytes) -> bytes | None:
        """What stands for the event of a reference, if that is known."""
        held = self._held.get(name)
        return held.mark if held is not None else None

    def marks(self, names: Iterable[bytes] | None = None) -> dict[bytes, bytes]:
        """Those that are known, of these live references or of all."""
        chosen = self._held if names is None else names
        return {name: mark for name in chosen if (mark := self.mark(name)) is not None}

    def found(self, name: bytes, mark: bytes) -> list[Id]:
        """The text of a waiting reference was found: where it is."""
        held = self._held[name]
        held.mark = mark
        del self.waiting[name]
        return list(held.places)

    def named(self, marks: Collection[bytes]) -> dict[bytes, bytes]:
        """The live references whose events these tombstones stand for: mark by name."""
        return {
            name: held.mark
            for name, held in self._held.items()
            if held.mark is not None and held.mark in marks
        }

    def bury(self, marks: Mapping[bytes, bytes]) -> None:
        """These references, mark by name, stand for what was forgotten: remember that."""
        self.buried |= marks
        for name in list(self.buried)[: max(0, len(self.buried) - BURIED_MAX)]:
            del self.buried[name]

    def wanted(self) -> set[Want]:
        """What has to be asked for."""
        return set(map(want_of, self.waiting.values()))


def want_of(reference: Reference) -> Want:
    """What asks for the text of a reference."""
    return Want(reference.device, reference.sequence, reference.text_hash)
