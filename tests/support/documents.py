"""Documents that the CRDT library itself made."""

from __future__ import annotations

from pycrdt import Array, Doc

ROOT = "00112233445566aa"


def document(count: int, deleted: int = 0, client: int = 7) -> Doc[Array[bytes]]:
    """An array of `count` batches, the first `deleted` of them gone."""
    doc: Doc[Array[bytes]] = Doc(client_id=client)
    array = doc.get(ROOT, type=Array)
    for number in range(count):
        array.append(b"sealed %d" % number)
    if deleted:
        del array[0:deleted]
    return doc


def values(doc: Doc[Array[bytes]]) -> list[bytes]:
    """What is in the array."""
    return list(doc.get(ROOT, type=Array))
