"""Ring files that are wrong in every way: real images, changed as a script of bytes says.

A script is a list of steps of eight bytes: what to do, and five numbers. What is changed can be given
its checksums and even its tag again, so that a damaged number reaches the code behind them.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from localmem_node.errors import NodeError
from localmem_node.store.event_store import EventStore
from localmem_node.store.layout import HEADER_BYTES, finish_header, unpack_header
from localmem_node.store.opening import open_event_store
from localmem_node.store.vault import Vault, unwrap
from support.events import event
from support.fault_disk import FaultDisk
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

KEYS: Final = FixedKeyStore()
DATA: Final = Path(__file__).parents[1] / "node" / "store" / "data"
STEP: Final = struct.Struct("<BBHI")
MIB: Final = 1024 * 1024


@cache
def bases() -> tuple[bytes, ...]:
    """Images to start from: small and large, closed and killed, of both versions; and none."""
    images = [b"", bytes(10240)]
    for size, count, closed in ((8192, 10, True), (10240, 90, False), (MIB, 60, True)):
        random = SeededRandom(size)
        disk = FaultDisk(random)
        store = open_event_store(Path("ring"), KEYS, random, size=size, disk=disk)
        for number in range(1, count):
            one = event(number, snippet=f"{number} " * 30, pinned=number % 17 == 0)
            ordinal = store.append([one]).ordinals[0]
            store.vectors.append([(ordinal, np.full(16, 0.25, np.float32))], encoder="m")
            store.commit()
        store.forgotten.forget([event(3).id])
        store.write_checkpoint(b"index " * 20)
        store.append([event(count)])
        store.commit()
        if closed:
            store.close()
        images.append(bytes(disk.medium))
    images += [gzip.decompress(file.read_bytes()) for file in sorted(DATA.glob("*.v1.gz"))]
    return tuple(images)


def image_of(script: bytes) -> bytes:
    """The image that a script makes: its first byte picks a base, steps follow."""
    if not script:
        return b""
    if script[0] == 0xFF:
        return script[1:]
    image = bytearray(bases()[script[0] % len(bases())])
    for what, small, number, wide in _steps(script[1:]):
        if image:
            _change(image, what % 8, small, number, wide)
    return bytes(image)


def check(script: bytes) -> str:
    """Open what a script makes. Anything but a NodeError is a bug; so is a write before one.

    What opens has to be of use: it is read, written, closed and opened again. Says what happened.
    """
    random = SeededRandom(len(script))
    disk = FaultDisk(random, image_of(script))
    if disk.size() == 0:
        return "empty"
    before = bytes(disk.medium)
    try:
        store = open_event_store(Path("ring"), KEYS, random, disk=disk)
    except NodeError as refused:
        error = refused
    else:
        return _use(store, disk, random)
    assert "\n" not in str(error)
    assert not disk.writes, "written to, and then refused"
    assert bytes(disk.medium) == before
    return type(error).__name__


def _use(store: EventStore, disk: FaultDisk, random: SeededRandom) -> str:
    try:
        list(store.vectors.by_event())
        store.verify()
        found = dict(store.scan())
        store.damage()
        store.stats()
        store.read_checkpoint()
        added = event(100_000)
        store.append([added])
        store.write_checkpoint(b"again")
        store.commit()
        store.close()
    except NodeError:
        return "refused later"
    with open_event_store(Path("ring"), KEYS, random, disk=disk) as again:
        here = list(again.scan())
        assert here[-1][1] == added
        assert {one.id for _, one in here[:-1]} <= {one.id for one in found.values()}
    return "opened"


def _steps(script: bytes) -> Iterator[tuple[int, int, int, int]]:
    for at in range(0, len(script) - STEP.size + 1, STEP.size):
        yield STEP.unpack_from(script, at)


def _change(image: bytearray, what: int, small: int, number: int, wide: int) -> None:
    size = 512 if len(image) < MIB else 4096
    slot = (small % 2) * 2 * size
    if what == 0:  # a byte anywhere
        image[wide % len(image)] ^= small or 1
    elif what == 1:  # a byte of a header
        image[(slot + number % HEADER_BYTES) % len(image)] = wide & 0xFF
    elif what == 2:  # a number of a header
        at = slot + 8 * (number % 16)
        image[at : at + 8] = (wide << (small & 31)).to_bytes(12, "little")[:8]
    elif what == 3:  # cut, or grown
        del image[wide % (len(image) + 1) :]
    elif what == 4:  # a block in another's place
        places = max(1, len(image) // size)
        source, target = number % places, wide % places
        image[target * size : (target + 1) * size] = image[source * size : (source + 1) * size]
    elif what == 5:  # a number at the beginning of a block
        at = (number % max(1, len(image) // size)) * size + small % 32
        image[at : at + 4] = wide.to_bytes(4, "little")
    elif what == 6:  # the checksum of a block, right again
        at = (number % max(1, len(image) // size)) * size
        image[at : at + 4] = zlib.crc32(image[at + 4 : at + size]).to_bytes(4, "little")
    else:  # checksum and tag of a header, right again
        _reseal(image, slot)


def _reseal(image: bytearray, slot: int) -> None:
    raw = bytes(image[slot : slot + HEADER_BYTES])
    if len(raw) < HEADER_BYTES:
        return
    open_at = slot + (512 if len(image) < MIB else 4096)
    tagged = raw[:96] + bytes(image[open_at : open_at + 4]) + raw[100 : HEADER_BYTES - 36]
    parsed = unpack_header(finish_header(tagged, bytes(32)))
    tag = bytes(32)
    if parsed is not None:
        keys = unwrap(parsed[0], KEYS.get(parsed[0].salt))
        if keys is not None:
            tag = Vault(keys, parsed[0]).tag(tagged)
    image[slot : slot + HEADER_BYTES] = finish_header(tagged, tag)
