"""References: an event whose text the receiver has in its own checkout.

In a pool that uses references an event travels as path, range and a keyed hash of its text. Who
receives it looks for the text where it says, and the hash tells whether that is the text that was
meant; the event, and its id, are then what they were. Text that the sender's checkout does not hold
either travels as it is. The key follows from the pool's epoch key: outside the pool the hash tells
nobody which text it is.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Protocol

import msgspec

from localmem_protocol.errors import EventError
from localmem_protocol.events import Event, Kind, parse_draft, stamp

TEXT_HASH_BYTES: Final = 5
"""A wrong text passes once in 2**40; few are tried for a reference, and nobody outside can try any.

They are most of what a reference costs, and no compressor makes them smaller."""

_PERSON: Final = b"localmem-text-1"


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """An event without its text and without the id, which follows from the text.

    `text_hash` is TEXT_HASH_BYTES of keyed hash; the other fields are those of `Event`.
    """

    timestamp: int
    file_path: str
    selection_range: tuple[int, int]
    text_hash: bytes
    model_response_hash: str | None
    kind: Kind
    tool: str | None
    session: str | None
    project: str | None
    pinned: bool
    device: str
    clock: int
    sequence: int


class Resolver(Protocol):
    """Where texts are looked for: a checkout, or a device that has the event."""

    def texts(self, reference: Reference) -> Iterable[str]:
        """What may be the text of a reference, the likeliest first; few."""
        ...


class Texts(Resolver, Protocol):
    """What a session needs of checkouts. It may take a moment, and raises nothing."""

    def shared(self, events: Sequence[Event]) -> Collection[str]:
        """The ids of the own events that others can be expected to have the text of: it is, at its
        path and lines, in a commit. None if this device sends no references."""
        ...


@dataclass(frozen=True)
class Resolution:
    """What became of references: events, and those whose text was not found."""

    events: tuple[Event, ...]
    unresolved: tuple[Reference, ...]


def text_hash(text: str, key: bytes) -> bytes:
    """The keyed hash of a text; `key` is `PoolKey.reference_key()`."""
    return blake2b(text.encode(), digest_size=TEXT_HASH_BYTES, key=key, person=_PERSON).digest()


def refer(event: Event, key: bytes) -> Reference | None:
    """The reference to an event; None for one that is at no place in a file."""
    if event.file_path is None or event.selection_range is None:
        return None
    return Reference(
        timestamp=event.timestamp,
        file_path=event.file_path,
        selection_range=event.selection_range,
        text_hash=text_hash(event.snippet, key),
        model_response_hash=event.model_response_hash,
        kind=event.kind,
        tool=event.tool,
        session=event.session,
        project=event.project,
        pinned=event.pinned,
        device=event.device,
        clock=event.clock,
        sequence=event.sequence,
    )


def refer_where(
    events: Sequence[Event], key: bytes, resolvable: Callable[[Event], bool]
) -> tuple[list[Event], list[Reference]]:
    """Events that travel with their text, and references to the others.

    `resolvable` says whether the receivers can be expected to have the text of an event.
    """
    whole: list[Event] = []
    references: list[Reference] = []
    for event in events:
        reference = refer(event, key) if resolvable(event) else None
        if reference is None:
            whole.append(event)
        else:
            references.append(reference)
    return whole, references


def matches(reference: Reference, text: str, key: bytes) -> bool:
    """Whether a text is the one that was meant."""
    return hmac.compare_digest(text_hash(text, key), reference.text_hash)


def restore(reference: Reference, text: str, key: bytes) -> Event | None:
    """The event that a reference stands for, if this is its text."""
    if not matches(reference, text, key):
        return None
    try:
        return stamp(
            parse_draft(fields_of(reference, text)),
            device=reference.device,
            clock=reference.clock,
            sequence=reference.sequence,
        )
    except EventError:  # no event has such a text, whatever it hashes to
        return None


def resolve(references: Iterable[Reference], resolver: Resolver, key: bytes) -> Resolution:
    """Look for the text of references."""
    events: list[Event] = []
    unresolved: list[Reference] = []
    for reference in references:
        found = (restore(reference, text, key) for text in resolver.texts(reference))
        event = next((event for event in found if event is not None), None)
        if event is None:
            unresolved.append(reference)
        else:
            events.append(event)
    return Resolution(tuple(events), tuple(unresolved))


def texts_at(lines: Sequence[str], selection_range: tuple[int, int]) -> list[str]:
    """What an editor may have recorded of a file's lines: with the last line's end, without, and from
    the first character that is no space to the last.

    `lines` come without their ends.
    """
    first, last = selection_range
    if last > len(lines):
        return []
    text = "\n".join(lines[first - 1 : last])
    return list(dict.fromkeys([text, text + "\n", text.strip()]))


def fields_of(reference: Reference, text: str) -> dict[str, object]:
    """The JSON object of the draft that a reference with this text is."""
    return {
        "timestamp": reference.timestamp,
        "filePath": reference.file_path,
        "selectionRange": reference.selection_range,
        "snippet": text,
        "modelResponseHash": reference.model_response_hash,
        "kind": reference.kind,
        "pinned": reference.pinned,
        "tool": reference.tool,
        "session": reference.session,
        "project": reference.project,
    }
