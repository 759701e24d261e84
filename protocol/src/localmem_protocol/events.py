"""The event: what localmem remembers.

A `Draft` is what a caller offers, an `Event` what a device has recorded: stamped with its place in
the order, its device and an id that follows from the content, so that the id costs no bytes on the
wire and the same event is the same everywhere. JSON names are camelCase, as editors write them.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from localmem_protocol.errors import EventError
from localmem_protocol.limits import (
    LABEL_BYTES_MAX,
    LINE_MAX,
    MARK_MAX,
    PATH_BYTES_MAX,
    SNIPPET_BYTES_MAX,
    TIMESTAMP_MS_MAX,
)

Kind = Literal["prompt", "edit", "command", "error", "answer", "read", "note"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
LOCATED: Final = frozenset({"edit", "read"})
"""Kinds that happen in a file, at lines; the others may lack both."""

DEVICE_ID_BYTES: Final = 8
HASH_HEX_DIGITS: Final = 16
ID_BYTES: Final = 10


class Draft(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """An event as offered. The first five fields suffice; build one with `parse_draft`."""

    timestamp: int
    snippet: str
    file_path: str | None = None
    selection_range: tuple[int, int] | None = None
    model_response_hash: str | None = None
    kind: Kind = "edit"
    tool: str | None = None
    session: str | None = None
    project: str | None = None
    pinned: bool = False


Order = tuple[int, str, int, str]
"""A place in the total order of events: clock, device, sequence, id."""


class Event(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An event as recorded: immutable, the same on every device.

    `timestamp` is integer milliseconds since 1970; `selection_range` the first and last line,
    1-based; `model_response_hash` 16 lower-case hex digits; `device` 16 hex digits; `clock` a
    hybrid clock reading; `sequence` counts the device's own events from 1.
    """

    id: str
    timestamp: int
    file_path: str | None
    selection_range: tuple[int, int] | None
    snippet: str
    model_response_hash: str | None
    kind: Kind
    tool: str | None
    session: str | None
    project: str | None
    pinned: bool
    device: str
    clock: int
    sequence: int

    @property
    def order(self) -> Order:
        """The sort key that is the same on every device.

        The id decides only between two machines that were cloned from one.
        """
        return (self.clock, self.device, self.sequence, self.id)


def is_device_id(text: str) -> bool:
    """Whether this is a device id: 16 lower-case hex digits."""
    return len(text) == 2 * DEVICE_ID_BYTES and set(text) <= _HEX_DIGITS


_HEX_DIGITS: Final = frozenset("0123456789abcdef")
_OPTIONAL_TEXT: Final = ("tool", "session", "project")
_FIELDS: Final = frozenset(
    {"timestamp", "filePath", "selectionRange", "snippet", "modelResponseHash", "kind", "pinned"}
) | frozenset(_OPTIONAL_TEXT)
_STAMPED: Final = ("id", "device", "clock", "sequence")


def parse_draft(fields: Mapping[str, Any]) -> Draft:
    """A draft from a JSON object (camelCase names).

    Raises EventError naming the first field that is missing, unknown or wrong, and why.
    """
    if not isinstance(fields, Mapping):
        raise EventError("", "an event is a JSON object, or a mapping")
    for name in fields:
        if name not in _FIELDS:
            raise EventError(str(name)[:40], "unknown field")
    kind = fields.get("kind", "edit")
    if kind not in KINDS:
        raise EventError("kind", f"must be one of {', '.join(KINDS)}")
    needed = ("timestamp", "filePath", "selectionRange", "snippet")
    for name in needed if kind in LOCATED else ("timestamp", "snippet"):
        if fields.get(name) is None:
            raise EventError(name, "missing")
    pinned = fields.get("pinned", False)
    if not isinstance(pinned, bool):
        raise EventError("pinned", "must be true or false")
    labels = {name: _text(name, fields.get(name), LABEL_BYTES_MAX) for name in _OPTIONAL_TEXT}
    return Draft(
        timestamp=_timestamp(fields["timestamp"]),
        snippet=_snippet(fields["snippet"]),
        file_path=_text("filePath", fields.get("filePath"), PATH_BYTES_MAX),
        selection_range=_range(fields.get("selectionRange")),
        model_response_hash=_hash(fields.get("modelResponseHash")),
        kind=kind,
        pinned=pinned,
        **labels,
    )


def decode_draft(line: bytes) -> Draft:
    """A draft from one line of JSON. Raises EventError."""
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EventError("", f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise EventError("", "not a JSON object")
    return parse_draft(fields)


def stamp(draft: Draft, *, device: str, clock: int, sequence: int) -> Event:
    """The event that `draft` becomes on `device` at its place in the order."""
    return with_id(
        Event(
            id="",
            timestamp=draft.timestamp,
            file_path=draft.file_path,
            selection_range=draft.selection_range,
            snippet=draft.snippet,
            model_response_hash=draft.model_response_hash,
            kind=draft.kind,
            tool=draft.tool,
            session=draft.session,
            project=draft.project,
            pinned=draft.pinned,
            device=device,
            clock=clock,
            sequence=sequence,
        )
    )


def draft_of(event: Event) -> Draft:
    """What an event was recorded from: the inverse of `stamp`."""
    return Draft(**{name: getattr(event, name) for name in Draft.__struct_fields__})


def parse_recorded(fields: Mapping[str, Any]) -> Event:
    """An event from a JSON object with every field, valid like any that a user offers.

    Raises EventError naming the field that is missing, unknown or wrong; `id` is wrong unless it
    follows from the others.
    """
    for name in _STAMPED:
        if fields.get(name) is None:
            raise EventError(name, "missing")
    draft = parse_draft({name: fields[name] for name in fields if name not in _STAMPED})
    device = fields["device"]
    if not isinstance(device, str) or not is_device_id(device):
        raise EventError("device", f"must be {2 * DEVICE_ID_BYTES} lower-case hex digits")
    event = stamp(
        draft,
        device=device,
        clock=_mark("clock", fields["clock"], 0),
        sequence=_mark("sequence", fields["sequence"], 1),
    )
    if fields["id"] != event.id:
        raise EventError("id", "does not follow from the other fields; one of them was altered")
    return event


def with_id(event: Event) -> Event:
    """`event` with the id that follows from its other fields (pinned aside: it can change)."""
    canonical = msgspec.msgpack.encode(
        (
            event.timestamp,
            event.file_path,
            event.selection_range,
            hashlib.blake2b(event.snippet.encode(), digest_size=32).digest(),
            event.model_response_hash,
            event.kind,
            event.tool,
            event.session,
            event.project,
            event.device,
            event.clock,
            event.sequence,
        )
    )
    digest = hashlib.blake2b(canonical, digest_size=ID_BYTES, person=b"localmem-event-1").digest()
    return msgspec.structs.replace(event, id=b32encode(digest).decode().lower())


def _timestamp(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise EventError("timestamp", "must be integer milliseconds since 1970")
    if not 0 <= value <= TIMESTAMP_MS_MAX:
        raise EventError("timestamp", f"must be from 0 to {TIMESTAMP_MS_MAX} ms")
    return value


def _mark(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MARK_MAX:
        raise EventError(name, f"must be a whole number from {least} to {MARK_MAX}")
    return value


def _snippet(value: object) -> str:
    if not isinstance(value, str):
        raise EventError("snippet", "must be text")
    size = len(_utf8("snippet", value))
    if not value.strip():
        raise EventError("snippet", "is empty")
    if size > SNIPPET_BYTES_MAX:
        raise EventError("snippet", f"{size} bytes, over the limit of {SNIPPET_BYTES_MAX}")
    return value


def _text(name: str, value: object, bytes_max: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise EventError(name, "must be text")
    size = len(_utf8(name, value))
    if not value:
        raise EventError(name, "is empty")
    if size > bytes_max:
        raise EventError(name, f"{size} bytes, over the limit of {bytes_max}")
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value):
        raise EventError(name, "contains a control character")
    return value


def _utf8(name: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise EventError(name, "is no text in UTF-8 (half of a surrogate pair)") from None


def _range(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    lines = list(value) if isinstance(value, list | tuple) else []
    whole = all(isinstance(line, int) and not isinstance(line, bool) for line in lines)
    if len(lines) != 2 or not whole or not 1 <= lines[0] <= lines[1] <= LINE_MAX:
        raise EventError("selectionRange", "must be [first, last], 1-based lines, first ≤ last")
    return (lines[0], lines[1])


def _hash(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) != HASH_HEX_DIGITS or not set(value) <= _HEX_DIGITS:
        raise EventError("modelResponseHash", "must be 16 lower-case hex digits, or null")
    return value
