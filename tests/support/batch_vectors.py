"""Write vectors/batches.json and envelope.json: `cd tests && python -m support.batch_vectors`.

For implementations in other languages. Bytes are hex; events are as in JSON everywhere. Whoever
opens these has the format right. Whoever writes the same columns has it right, too; the text of a
batch may be compressed in more than one way, so the files name the zstd that they were made with.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import zstandard

from localmem_protocol.envelope import Opener, PoolKey, Sealer, batch_hash
from localmem_protocol.errors import ProtocolError
from localmem_protocol.padding import Padding
from localmem_protocol.parcels import Context, Parcel, encode_parcel
from localmem_protocol.references import text_hash
from localmem_protocol.views import View
from localmem_protocol.wants import Want
from support.events import DEVICE, event, reference

FOLDER: Final = Path(__file__).parents[1] / "vectors"
POOL: Final = PoolKey("0123456789abcdef" * 2, 3, bytes(range(32)))
CLIENT: Final = 7
OTHER: Final = "ffeeddccbbaa9988"
SESSION: Final = "0b1f5a5e-33c8-4d1a-9a43-1f9c51a5d0aa"
Json = dict[str, Any]


def parcels() -> list[Parcel]:
    """Those of one segment, in order."""
    key = POOL.reference_key()
    labels = {"tool": "claude-code", "session": SESSION, "project": "00ff00ff00ff00ff"}
    code = "def parse(text: str) -> list[str]:\n    return text.split()\n"
    wants = tuple(
        Want(device, sequence, text_hash(f"{sequence}", key))
        for device, sequence in ((DEVICE, 5), (DEVICE, 300), (OTHER, 1))
    )
    return [
        Parcel((event(1),)),
        Parcel((event(2, **labels, snippet=code), event(3, **labels, snippet=code * 2))),
        Parcel((event(4, kind="prompt", filePath=None, selectionRange=None, snippet="why?"),)),
        Parcel((event(5, modelResponseHash="0123456789abcdef"), event(6, pinned=True))),
        Parcel((event(9, OTHER, filePath="src/ä/\N{SNOWMAN}.py", snippet="x\n" * 200),)),
        Parcel((event(10),), references=(reference(event(7), key), reference(event(11), key))),
        Parcel(tombstones=(bytes(range(16)), bytes(16))),
        Parcel(heads=(bytes(66),)),
        Parcel((event(12, timestamp=5),), (bytes(16),), (b"head",), (reference(event(13), key),)),
        Parcel(
            heads=(bytes(66),), views=(View(3, 16, b"seen", OTHER), View(300, 70_000, bytes(4)))
        ),
        Parcel(wants=wants),
    ]


def batch_vectors() -> Json:
    """Plaintexts of a segment, and what they hold."""
    context, batches = Context.of(DEVICE), []
    for parcel in parcels():
        plain, context = encode_parcel(parcel, context)
        batches.append({"plain": plain.hex(), "parcel": shown(parcel)})
    return {"zstd_text": zstd(), "device": DEVICE, "segment": batches}


def envelope_vectors() -> Json:
    """Sealed batches, and what does not open."""
    sealers = {padding: Sealer(POOL, DEVICE, CLIENT, padding=padding) for padding in Padding}
    chains: dict[str, list[Json]] = {
        padding.value: [
            {"clock": clock, "sealed": sealed.hex(), "hash": batch_hash(sealed).hex()}
            for clock, parcel in enumerate(parcels())
            for sealed in [sealer.seal(parcel, clock)]
        ]
        for padding, sealer in sealers.items()
    }
    first = bytes.fromhex(chains["none"][0]["sealed"])
    restarted = Sealer(POOL, DEVICE, CLIENT, batch_hash(first)).seal(parcels()[1], 1)
    refused = {
        "empty": b"",
        "cut": first[:-1],
        "another version": bytes([first[0] ^ 1]) + first[1:],
        "unknown flag": bytes([first[0] | 0x80]) + first[1:],
        "altered": first[:-1] + bytes([first[-1] ^ 1]),
        "out of its place": bytes.fromhex(chains["none"][1]["sealed"]),
    }
    return {
        "zstd_text": zstd(),
        "pool_text": POOL.pool,
        "epoch": POOL.epoch,
        "key": POOL.key.hex(),
        "reference_key": POOL.reference_key().hex(),
        "device": DEVICE,
        "client": CLIENT,
        "parcels": [shown(parcel) for parcel in parcels()],
        "chains_by_padding": chains,
        "restarted": {"clock": 1, "sealed": restarted.hex(), "parcel": shown(parcels()[1])},
        "refused_at_clock_0": {
            name: {"sealed": data.hex(), "code_text": _code(data)} for name, data in refused.items()
        },
    }


VECTORS: Final[dict[str, Callable[[], Json]]] = {
    "batches": batch_vectors,
    "envelope": envelope_vectors,
}


def shown(parcel: Parcel) -> Json:
    """A parcel as JSON."""
    fields = {
        "events": [msgspec.to_builtins(one) for one in parcel.events],
        "references": [
            msgspec.to_builtins(msgspec.structs.asdict(one)) | {"text_hash": one.text_hash.hex()}
            for one in parcel.references
        ],
        "tombstones": [one.hex() for one in parcel.tombstones],
        "wants": [
            {"device": one.device, "sequence": one.sequence, "text_hash": one.text_hash.hex()}
            for one in parcel.wants
        ],
        "heads": [one.hex() for one in parcel.heads],
        "views": [msgspec.to_builtins(one) | {"check": one.check.hex()} for one in parcel.views],
    }
    made: Json = json.loads(json.dumps(fields))  # lists for tuples
    return made


def zstd() -> str:
    """The version of libzstd."""
    return ".".join(map(str, zstandard.ZSTD_VERSION))


def rendered(name: str) -> str:
    """What is in the file."""
    return json.dumps(VECTORS[name](), indent=1, ensure_ascii=False) + "\n"


def _code(data: bytes) -> str:
    try:
        Opener(POOL, DEVICE, CLIENT).open(data, 0)
    except ProtocolError as error:
        return error.code
    raise AssertionError("it opens")


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name in VECTORS:
        (FOLDER / f"{name}.json").write_text(rendered(name), encoding="utf-8")


if __name__ == "__main__":
    main()
