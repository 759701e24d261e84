"""Other ways to carry the same events, and what no way gets below: for `bench.payload`.

Each design appends to one array per device of one Yjs document, and counts the updates and the
document. The floor is the best of the general compressors on all events at once, without any
encryption, signature or document: what is compared with it pays for all three.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

import msgspec
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from pycrdt import Array, Doc, Map, TransactionEvent

from localmem_protocol.batches import Row, encode_rows
from localmem_protocol.events import Event
from localmem_protocol.recall import Recall

Batches = Mapping[str, Sequence[Sequence[Event]]]
"""device -> its batches, in order."""


def yjs_maps(batches: Batches) -> dict[str, int]:
    """A map for each event, its fields as they are."""
    return _document(batches, lambda array, events: array.extend([_map(event) for event in events]))


def json_strings(batches: Batches) -> dict[str, int]:
    """A string of JSON for each event."""
    return _document(
        batches, lambda array, events: array.extend([_json(event) for event in events])
    )


def sealed_events(batches: Batches) -> dict[str, int]:
    """Each event as JSON, sealed with a nonce of its own."""
    aead = AESGCMSIV(bytes(32))

    def add(array: Array[Any], events: Sequence[Event]) -> None:
        for event in events:
            nonce = event.sequence.to_bytes(12, "little")
            array.append(nonce + aead.encrypt(nonce, _json(event).encode(), None))

    return _document(batches, add)


def floor(events: Sequence[Event], rows: Sequence[Row]) -> dict[str, int]:
    """Bytes of all events at once by compressor, JSON or columns, whichever is smaller.

    `rows` are the events, or references to them; references are compressed as columns alone.
    """
    columns, text = encode_rows(rows, Recall(events[0].device))
    forms = [columns + text]
    if rows == list(events):
        forms.append("\n".join(map(_json, events)).encode())
    return {
        name: min(len(compress(form)) for form in forms)
        for name, compress in _compressors().items()
    }


def _document(
    batches: Batches, add: Callable[[Array[Any], Sequence[Event]], object]
) -> dict[str, int]:
    whole: Doc[Array[Any]] = Doc(client_id=len(batches) + 1)
    increments = 0
    for number, (device, parts) in enumerate(batches.items(), start=1):
        for update in _updates(number, device, parts, add):
            increments += len(update)
            whole.apply_update(update)
    return {"document_bytes": len(whole.get_update()), "increment_bytes": increments}


def _updates(
    client: int,
    device: str,
    parts: Sequence[Sequence[Event]],
    add: Callable[[Array[Any], Sequence[Event]], object],
) -> Iterable[bytes]:
    doc: Doc[Array[Any]] = Doc(client_id=client)
    array = doc.get(device, type=Array)
    updates: list[bytes] = []

    def keep(event: TransactionEvent) -> None:
        updates.append(event.update)

    subscription = doc.observe(keep)
    for part in parts:
        with doc.transaction():
            add(array, part)
    doc.unobserve(subscription)
    return updates


def _map(event: Event) -> Map[Any]:
    fields = {name: value for name, value in _fields(event).items() if value is not None}
    return Map({name: _plain(value) for name, value in fields.items()})


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _json(event: Event) -> str:
    return msgspec.json.encode(_fields(event)).decode()


def _fields(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(event)
    del fields["device"]  # the name of the array says it
    return {name: value for name, value in fields.items() if value is not None}


_LZMA: Final = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


def _compressors() -> dict[str, Callable[[bytes], bytes]]:
    found: dict[str, Callable[[bytes], bytes]] = {
        "bz2": lambda data: bz2.compress(data, 9),
        "xz": lambda data: lzma.compress(data, format=lzma.FORMAT_RAW, filters=_LZMA),
        "zstd": lambda data: zstandard.compress(data, 22),
    }
    if find_spec("brotli") is not None:
        import brotli

        found["brotli"] = lambda data: brotli.compress(data, quality=11, lgwin=24)
    return found
