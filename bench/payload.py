"""What does synchronising a day of work cost, in bytes?

200 edits of three devices in 24 hours (`bench.payload_trace`), at 1, 10 and all of a device per
update, with their text (snippets) and as references: the sum of all updates that devices send, and
the document that they make, sealed, and signed as a session does it: at each segment's start, and when a device rests.
Every batch is opened again and every event compared, references resolved in the same files.
Beside it: other designs and general compressors (`bench.payload_designs`); the same with a hash of
the model's response in each event, or in each turn; what padding
costs; references when some text is in no commit yet and travels as a snippet; what frames, WebSocket and HTTP add; times; and the document of a year of such
days against that of its fifth, at a fixed size of the arrays.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.edits import SEED
from bench.payload_designs import Batches, floor, json_strings, sealed_events, yjs_maps
from bench.payload_trace import Checkout, Hashes, Trace, trace
from bench.report import print_json, print_progress, print_table
from localmem_node.errors import NodeError
from localmem_protocol.entries import Role
from localmem_protocol.envelope import Opener, PoolKey, Sealer
from localmem_protocol.events import Event
from localmem_protocol.frames import Ack, Update, encode_frame
from localmem_protocol.heads import Position, SignedHead, sign_head
from localmem_protocol.keys import DeviceKeys, PublicKeys
from localmem_protocol.limits import BATCH_EVENTS_MAX, CLIENT_ID_BITS, SEGMENT_BATCHES_MAX
from localmem_protocol.padding import Padding
from localmem_protocol.parcels import Parcel
from localmem_protocol.references import TEXT_HASH_BYTES, Reference, refer_where, resolve
from localmem_protocol.replica import Replica
from localmem_protocol.signatures import REST_S, Signatures, rest_s
from localmem_protocol.updates import decode_update

EVENTS: Final = 200
PER_UPDATE: Final = {"1": 1, "10": 10, "all": BATCH_EVENTS_MAX}
SHARES: Final = (0.0, 0.1, 0.25, 0.5)
"""Of text that is in no commit yet."""

STEADY_DAY: Final = 5
YEAR_ARRAY_SEGMENTS: Final = 2.5
"""So that on the fifth day no segment is left from before the arrays were full: since then each has a
second head, which says what was evicted."""

LISTING: Final = Path(__file__).resolve().parent.parent / "protocol/dictionary_2.sources"

_POOL: Final = PoolKey(blake2b(b"payload", digest_size=16).hexdigest(), 1, bytes(range(32)))
_WEBSOCKET_MASK_BYTES: Final = 4
_HTTP_REQUEST: Final = (
    "POST /v1/sync/{pool}.1 HTTP/1.1\r\nhost: hub.example.org\r\nauthorization: Bearer {token}\r\n"
    "content-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
)
_HTTP_ANSWER: Final = (
    "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
    "content-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
)


class Altered(NodeError):
    """What was decoded is not what was sent."""


@dataclass(frozen=True)
class Sent:
    """What one way of sending a trace came to."""

    updates: list[bytes]
    document_bytes: int
    snippets: int

    @property
    def increment_bytes(self) -> int:
        """The sum of all updates."""
        return sum(map(len, self.updates))

    def figures(self) -> dict[str, int]:
        """For the report."""
        return {
            "document_bytes": self.document_bytes,
            "increment_bytes": self.increment_bytes,
            "updates": len(self.updates),
        }


def main(arguments: Sequence[str]) -> None:
    """Print tables, or with `--json` one object (see the module's text for what is in it)."""
    parser = argparse.ArgumentParser(prog="python -m bench payload", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--days", type=int, default=365, help=f"simulated, {STEADY_DAY} or more")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    result = measure(options.events, max(STEADY_DAY, options.days), options.seed)
    if options.json:
        print_json(result)
    else:
        _print(result)


def measure(count: int, days: int, seed: int) -> dict[str, Any]:
    """All of it."""
    day = trace(count, seed=seed)
    result: dict[str, Any] = {"events": count, "devices": len(day.events), "hours": 24}
    snippets = [len(event.snippet) for event in day.all_events()]
    result["snippet_characters"] = round(sum(snippets) / count, 1)
    result |= {
        "snippets": _by_size(day, references=False),
        "reference": _by_size(day, references=True),
        "padding": {
            mode: {
                padding.value: send(day, 10, references=references, padding=padding).figures()
                for padding in Padding
            }
            for mode, references in (("snippets", False), ("reference", True))
        },
        "share_as_snippet": {str(share): _shared(day, share, seed) for share in SHARES},
        "response_hashes": {
            hashes.value: {
                "snippets": _by_size(hashed, references=False),
                "reference": _by_size(hashed, references=True),
                "floor": _floors(hashed),
            }
            for hashes in (Hashes.TURNS, Hashes.EACH)
            for hashed in [trace(count, seed=seed, hashes=hashes)]
        },
        "baselines": {
            design.__name__: {
                size: design(_batches(day, per_update)) for size, per_update in PER_UPDATE.items()
            }
            for design in (yjs_maps, json_strings, sealed_events)
        },
        "floor": _floors(day),
        "transport": _transport(send(day, 10, references=False).updates),
        "milliseconds": times(day),
        "year": year(days),
        "trace_files": [file.path for file in day.files],
        "dictionary_files": [line.split()[1] for line in LISTING.read_text().splitlines()],
    }
    return result


def send(
    day: Trace,
    per_update: int,
    *,
    references: bool,
    uncommitted: frozenset[str] = frozenset(),
    padding: Padding = Padding.NONE,
) -> Sent:
    """Send a trace, and take in on another device what was sent. Raises Altered.

    Events whose id is `uncommitted` travel with their text even if `references` do not.
    """
    reader = Replica(_POOL, "ff" * 8)
    updates: list[bytes] = []
    whole = 0
    batches = _batches(day, per_update)
    senders = {
        name: _Sender(name, (1 << CLIENT_ID_BITS) - number, padding)
        for number, name in enumerate(batches, start=1)
    }

    def pass_on(device: str, made: Sequence[bytes]) -> None:
        for update in made:
            updates.append(update)
            others = [one.replica for name, one in senders.items() if name != device]
            for replica in (*others, reader):
                problems = replica.integrate(update).problems
                if problems:
                    raise Altered(f"a batch did not open: {problems[0]}")

    for _, device, part, rest_ms in _moments(batches):
        sender = senders[device]
        if part:
            parcel = _parcel(part, references=references, uncommitted=uncommitted)
            whole += len(parcel.events)
            pass_on(device, [sender.send(parcel)])
        else:
            pass_on(device, sender.rest(rest_ms / 1000))
    for device, sender in senders.items():
        _compare(day, device, sender.sealed, sender.client)
    return Sent(updates, len(reader.export()), whole)


def _moments(batches: Batches) -> list[tuple[int, str, Sequence[Event], int]]:
    """What happens, in order: when (ms), on which device, the batch or none for a rest, how long that is.

    A batch goes when its last event happens; the night is longer than any rest. In a rest something
    happens after the longest one that a device waits, or when it ends.
    """
    found: list[tuple[int, str, Sequence[Event], int]] = []
    for device, parts in batches.items():
        for part, later in zip(parts, [*parts[1:], None], strict=True):
            sent_ms = part[-1].timestamp
            rest_ms = later[-1].timestamp - sent_ms if later else 1000 * int(REST_S)
            found.append((sent_ms, device, part, 0))
            found.append((sent_ms + min(rest_ms, 1000 * int(REST_S)), device, (), rest_ms))
    return sorted(found, key=lambda one: (one[0], bool(one[2])))


@cache
def _keys(device: str) -> DeviceKeys:
    return DeviceKeys.from_bytes(blake2b(device.encode(), digest_size=64).digest())


class Author:
    """Implements `Authorship`: a device with keys, in a pool of such devices."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._keys = _keys(device)

    def sign(self, at: Position) -> SignedHead:
        """As `Authorship` says."""
        return sign_head(at, self._device, self._keys)

    def keys_of(self, device: str) -> PublicKeys | None:
        """As `Authorship` says."""
        return _keys(device).public

    def role_at(self, device: str, epoch: int) -> Role | None:
        """As `Authorship` says."""
        return "member"


class _Sender:
    """A device: seals, and signs."""

    def __init__(self, device: str, client: int, padding: Padding = Padding.NONE) -> None:
        self.client = client
        self.sealed: list[bytes] = []
        self.replica = Replica(
            _POOL, device, client, (), Signatures(_POOL, device, Author(device)), padding
        )

    @property
    def clock(self) -> int:
        """How many batches it made."""
        return self.replica.clock

    def send(self, parcel: Parcel) -> bytes:
        """The update that carries a parcel."""
        return self._made(self.replica.append_parcel(parcel))

    def rest(self, seconds: float) -> list[bytes]:
        """The update with the signed head alone, if a device makes one in a rest so long."""
        unsigned = self.replica.signatures.unsigned(self.client)
        if not unsigned or seconds < rest_s(unsigned):
            return []
        return [self._made(self.replica.append_head())]

    def evict(self, bytes_max: int) -> bytes | None:
        """As `Replica.evict`."""
        evicted = self.replica.evict(bytes_max)
        return evicted and self._made(evicted)

    def _made(self, update: bytes) -> bytes:
        for item in decode_update(update, stored=True).items.get(self.client, ()):
            self.sealed += item.contents or ()
        return update


def _parcel(events: Sequence[Event], *, references: bool, uncommitted: frozenset[str]) -> Parcel:
    if not references:
        return Parcel(tuple(events))
    whole, referred = refer_where(
        events, _POOL.reference_key(), lambda event: event.id not in uncommitted
    )
    return Parcel(tuple(whole), references=tuple(referred))


def _compare(day: Trace, device: str, sealed: Sequence[bytes], client: int) -> None:
    """Open a device's batches, resolve references, compare. Raises Altered."""
    opener = Opener(_POOL, device, client)
    events: list[Event] = []
    references: list[Reference] = []
    for clock, batch in enumerate(sealed):
        parcel = opener.open(batch, clock)
        events += parcel.events
        references += parcel.references
    resolution = resolve(references, Checkout(day.files), _POOL.reference_key())
    events += resolution.events
    if sorted(events, key=lambda event: event.order) != day.events[device]:
        raise Altered(f"device {device} sent other events than were received")


def times(day: Trace) -> dict[str, float]:
    """Medians of sealing and of opening ten events with their text."""
    seal_ms: list[float] = []
    open_ms: list[float] = []
    for device, parts in _batches(day, 10).items():
        sealer, opener = Sealer(_POOL, device, 1), Opener(_POOL, device, 1)
        for clock, part in enumerate(parts):
            began = time.perf_counter()
            sealed = sealer.seal(Parcel(tuple(part)), clock)
            between = time.perf_counter()
            opener.open(sealed, clock)
            seal_ms.append(1000 * (between - began))
            open_ms.append(1000 * (time.perf_counter() - between))
    return {"seal": statistics.median(seal_ms), "open": statistics.median(open_ms)}


def _batches(day: Trace, per_update: int) -> Batches:
    return {
        device: [events[at : at + per_update] for at in range(0, len(events), per_update)]
        for device, events in day.events.items()
    }


def _by_size(day: Trace, *, references: bool) -> dict[str, dict[str, int]]:
    return {
        size: send(day, per_update, references=references).figures()
        for size, per_update in PER_UPDATE.items()
    }


def _shared(day: Trace, share: float, seed: int) -> dict[str, float]:
    """References at ten per update when a share of the text is in no commit yet."""
    events = day.all_events()
    chosen = np.random.default_rng(seed).random(len(events)) < share
    uncommitted = frozenset(event.id for event, new in zip(events, chosen, strict=True) if new)
    sent = send(day, 10, references=True, uncommitted=uncommitted)
    return sent.figures() | {"share": sent.snippets / len(events)}


def _floors(day: Trace) -> dict[str, dict[str, int]]:
    events = day.all_events()
    _, references = refer_where(events, _POOL.reference_key(), lambda event: True)
    return {"snippets": floor(events, events), "reference": floor(events, references)}


def _transport(updates: Sequence[bytes]) -> dict[str, dict[str, int]]:
    """Bytes beyond the updates themselves, of one device's way to the hub and back."""
    frames = [encode_frame(Update(update)) for update in updates]
    ack = encode_frame(Ack(1, 1))
    token = "t" * 43
    return {
        "frames": {"up": sum(map(len, frames)) - sum(map(len, updates))},
        "websocket": {
            "up": sum(_websocket_head(len(f)) + _WEBSOCKET_MASK_BYTES for f in frames),
            "down": len(updates) * (_websocket_head(len(ack)) + len(ack)),
        },
        "http": {
            "up": sum(
                len(_HTTP_REQUEST.format(pool=_POOL.pool, token=token, length=len(f)))
                for f in frames
            ),
            "down": len(updates) * len(_HTTP_ANSWER.format(length=len(ack))),
        },
    }


def _websocket_head(length: int) -> int:
    return 2 if length < 126 else 4 if length < 65536 else 10


def year(days: int) -> dict[str, float]:
    """The document at the end of the fifth and of the last day, arrays of a fixed size.

    Two references per batch; a segment a day on each of three devices, heads included, so that every
    day ends at the same point.
    """
    reader = Replica(_POOL, "ff" * 8)
    senders = [_Sender(f"{number:016x}", (1 << CLIENT_ID_BITS) - number) for number in (1, 2, 3)]
    references = [_endless(f"{number:016x}", number) for number in (1, 2, 3)]
    sizes: list[int] = []
    bytes_max = 0
    for day in range(1, days + 1):
        for sender, source in zip(senders, references, strict=True):
            while True:
                pair = (next(source), next(source))
                reader.integrate(sender.send(Parcel(references=pair)))
                evicted = sender.evict(bytes_max) if bytes_max else None
                if evicted is not None:
                    reader.integrate(evicted)
                if sender.clock % SEGMENT_BATCHES_MAX == 0:
                    break
        if day == 1:
            bytes_max = int(YEAR_ARRAY_SEGMENTS * sum(map(len, senders[0].sealed)))
        for sender in senders:
            sender.sealed.clear()
        sizes.append(len(reader.export()))
        if day % 50 == 0:
            print_progress(f"day {day}: {sizes[-1]} bytes")
    first, last = sizes[STEADY_DAY - 1], sizes[-1]
    return {
        "days": days,
        "array_bytes_max": bytes_max,
        "day_5_bytes": first,
        "last_day_bytes": last,
        "largest_bytes": max(sizes[STEADY_DAY - 1 :]),
        "change": last / first - 1,
    }


def _endless(device: str, seed: int) -> Iterator[Reference]:
    """References that never end, each of them like the others."""
    chance = np.random.default_rng(seed)
    now_ms = 1_760_000_000_000
    sequence = 0
    while True:
        sequence += 1
        now_ms += int(chance.integers(1_000_000, 1_700_000))
        first = int(chance.integers(1, 1000))
        yield Reference(
            timestamp=now_ms,
            file_path=f"src/module_{int(chance.integers(10, 30))}.py",
            selection_range=(first, first + int(chance.integers(2, 8))),
            text_hash=chance.bytes(TEXT_HASH_BYTES),
            model_response_hash=None,
            kind="edit",
            tool=None,
            session=None,
            project=None,
            pinned=False,
            device=device,
            clock=now_ms << 16,
            sequence=sequence,
        )


def _print(result: Mapping[str, Any]) -> None:
    print(f"{result['events']} events, {result['devices']} devices, 24 hours;")
    print(f"snippets of {result['snippet_characters']} characters on average\n")
    sizes = list(PER_UPDATE)
    rows = [
        [name, *(_cell(result[key][size]) for size in sizes)]
        for name, key in (("snippets", "snippets"), ("references", "reference"))
    ]
    for hashes, measured in result["response_hashes"].items():
        for key in ("snippets", "reference"):
            title = f"{key}, a response hash in {hashes}"
            rows.append([title, *(_cell(measured[key][size]) for size in sizes)])
    for name, measured in result["baselines"].items():
        rows.append([name, *(_cell(measured[size]) for size in sizes)])
    print_table(["bytes sent / document", *(f"{size} per update" for size in sizes)], rows)
    print()
    print_table(
        ["floor: all at once", *result["floor"]["snippets"]],
        [[mode, *sizes.values()] for mode, sizes in result["floor"].items()],
    )
    print()
    print_table(
        ["ten per update, padding", *(padding.value for padding in Padding)],
        [[mode, *map(_cell, sizes.values())] for mode, sizes in result["padding"].items()],
    )
    print()
    print_table(
        ["share in no commit", "bytes sent"],
        [
            [f"{row['share']:.0%}", row["increment_bytes"]]
            for row in result["share_as_snippet"].values()
        ],
    )
    print()
    print_table(
        ["beyond the updates", "up", "down"],
        [[name, way.get("up", 0), way.get("down", 0)] for name, way in result["transport"].items()],
    )
    passed = result["year"]
    print(
        f"\ndocument after day {STEADY_DAY}: {passed['day_5_bytes']} bytes; after day "
        f"{passed['days']}: {passed['last_day_bytes']} ({passed['change']:+.2%})"
    )
    took = result["milliseconds"]
    print(f"ten events: sealed in {took['seal']:.1f} ms, opened in {took['open']:.2f} ms")
    print("\nfiles of the trace: " + ", ".join(result["trace_files"]))
    print("\nfiles that the dictionary saw: " + ", ".join(result["dictionary_files"]))


def _cell(figures: Mapping[str, int]) -> str:
    return f"{figures['increment_bytes']} / {figures['document_bytes']}"
