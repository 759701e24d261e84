"""What is in a ring file: from its bytes to the state a writer goes on from. Writes nothing.

A slot is whole when its header's checksum and tag hold and its open block is the one that the
header names. Blocks are synced before the slot that counts on them, so a whole slot never refers to
blocks that were lost in a crash. Recovery takes the newest whole slot. If a newer one was torn (or
damaged later), blocks that its commit finished are still taken up, as long as they continue the
chosen slot: same open id and same bytes so far (or the same records, sealed anew by the next owner of
the file), next ordinal.

Where a checkpoint kept the directory, only what was written since is read and authenticated. The
rest was, when it was written or last read in full; `verification` reads it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from localmem_node.errors import DamagedStore, ForeignFile, WrongKey, WrongVersion
from localmem_node.seams import Disk, KeyStore
from localmem_node.store.blocks import (
    NO_OPEN_ID,
    NONCE_BYTES,
    RECORD_HEADER_BYTES,
    Block,
    Frame,
    OpenBlock,
    associated,
    frames,
    parse_block,
)
from localmem_node.store.directory import EVENT, PINNED, Columns, Directory
from localmem_node.store.keys import MODES, PassphraseStore, mode_of
from localmem_node.store.layout import (
    BLOCK_HEADER_BYTES,
    HEADER_BYTES,
    MAGIC,
    OLDEST_VERSION,
    TAGGED_BYTES,
    VERSION,
    Geometry,
    Identity,
    State,
    header_tag,
    header_version,
    unpack_header,
)
from localmem_node.store.records import event_id
from localmem_node.store.vault import Keys, Vault, unwrap

_SLOT_OFFSETS: Final = (0, 1024, 8192)
"""Where a header may be: slot A, and slot B for either block size."""

_CHUNK_BLOCKS: Final = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slot:
    """A slot whose header's checksum holds. `index` is 0 or 1; `open_raw` may be damaged."""

    index: int
    identity: Identity
    state: State
    header: bytes
    open_raw: bytes

    def open_block(self) -> Block | None:
        """The open block, if it is the one that the header names."""
        size = self.identity.geometry.block_size
        block = parse_block(self.open_raw, size)
        if block is None or block.checksum != self.state.open_checksum:
            return None
        starts = list(block.starts(size - BLOCK_HEADER_BYTES))
        end = block.carried
        if starts:
            offset, _, length = starts[-1]
            end = offset + RECORD_HEADER_BYTES + length
        named = (block.number, block.ordinal + len(starts), len(block.payload), end)
        agreed = (self.state.head, self.state.next_ordinal, self.state.used, self.state.used)
        return block if named == agreed else None


@dataclass
class Recovered:
    """What a writer goes on from.

    `openings` are (first block number, open id), ascending. `taken_up`: more was found than the
    slot knows of.
    """

    identity: Identity
    state: State
    slot: int
    generation: int
    tail: int
    opened: OpenBlock
    directory: Directory
    openings: list[tuple[int, bytes]]
    taken_up: bool
    verified: bool


@dataclass(frozen=True)
class Saved:
    """What a checkpoint knows of the ring: the open block's number then, (first block, open id) of
    each open of the file, and the directory.
    """

    head: int
    openings: list[tuple[int, bytes]]
    columns: Columns


def read_slots(disk: Disk, name: str) -> list[Slot]:
    """The slots with a readable header, newest first.

    Raises ForeignFile, WrongVersion, or DamagedStore when there is none.
    """
    found: list[Slot] = []
    ours = False
    for offset in _SLOT_OFFSETS:
        raw = _read(disk, offset, HEADER_BYTES)
        ours = ours or raw[:4] == MAGIC
        version = header_version(raw)
        if version is None:
            continue
        if not OLDEST_VERSION <= version <= VERSION:
            raise WrongVersion(
                f"{name} has format version {version}, this release reads {OLDEST_VERSION} to "
                f"{VERSION}; use the release that wrote it"
            )
        slot = _parse_slot(disk, offset, raw)
        if slot is not None:
            found.append(slot)
    if not found and ours:
        raise DamagedStore(f"{name}: both headers are damaged; restore a copy, or move it away")
    if not found:
        raise ForeignFile(f"{name} is not a localmem store; choose another path or move it away")
    return sorted(found, key=lambda slot: -slot.state.generation)


def unlock(slots: list[Slot], keystore: KeyStore, name: str) -> tuple[list[Slot], Vault]:
    """The slots whose tag holds under the data key, and the store's keys.

    Raises WrongKey, DamagedStore, KeyUnavailable.
    """
    opened = False
    for identity in dict.fromkeys(slot.identity for slot in slots):
        keys = unwrap(identity, _wrapping_key(identity, keystore, name))
        if keys is None:
            continue
        opened = True
        found = genuine(slots, identity, keys)
        if found is not None:
            return found
    if opened:
        raise DamagedStore(f"{name}: the headers were altered; restore a copy, or move it away")
    kept = MODES.get(slots[0].identity.key_mode, "another key")
    raise WrongKey(
        f"the key ({keystore.location}) does not open {name}, which was made with {kept}; "
        "give the one it was made with"
    )


def genuine(slots: list[Slot], identity: Identity, keys: Keys) -> tuple[list[Slot], Vault] | None:
    """The slots of an identity whose tag holds under these keys; None without any."""
    vault = Vault(keys, identity)
    found = [
        slot
        for slot in slots
        if slot.identity == identity
        and vault.verify(slot.header[:TAGGED_BYTES], header_tag(slot.header))
    ]
    return (found, vault) if found else None


def recover(disk: Disk, slots: list[Slot], vault: Vault, saved: Saved | None = None) -> Recovered:
    """The state to go on from. `slots` newest first; `saved` must be of this ring and not of later.

    Every live record is authenticated, with `saved` those that it does not know. Raises
    DamagedStore.
    """
    base, block = _choose(slots)
    identity, state = base.identity, base.state
    geometry = identity.geometry
    size = geometry.block_size
    if block is None:
        opened = OpenBlock(size, state.head, state.next_ordinal, NO_OPEN_ID)
        taken_up = False
    else:
        opened, taken_up = _opened(disk, geometry, block, state.next_ordinal, vault)
    tail, first_ordinal = _tail(disk, geometry, state, opened.number)
    usable = saved is not None and _usable(saved, tail, opened)
    if saved is not None and usable:
        start, directory = saved.head, Directory.load(saved.columns)
        directory.evict_before(tail * size)
        openings = [opening for opening in saved.openings if opening[0] < start]
    else:
        start, directory, openings = tail, Directory(first_ordinal), []
    blocks = _noted(_blocks(disk, geometry, start, opened), openings)
    _enter(frames(blocks, size), directory, vault)
    if directory.next > opened.next_ordinal:
        raise DamagedStore("the header contradicts the ring; restore a copy, or move it away")
    directory.lose_until(opened.next_ordinal)
    if directory.lost:
        _log.warning("%d damaged records; the others are intact", directory.lost)
    return Recovered(
        identity=identity,
        state=state,
        slot=base.index,
        generation=slots[0].state.generation,
        tail=tail,
        opened=opened,
        directory=directory,
        openings=openings,
        taken_up=taken_up,
        verified=not usable,
    )


def _usable(saved: Saved, tail: int, opened: OpenBlock) -> bool:
    """Whether a saved directory is of this ring, and not wholly behind its tail."""
    columns = saved.columns
    return (
        columns.sound()
        and tail <= saved.head <= opened.number
        and columns.first + len(columns.kinds) <= opened.next_ordinal
    )


def _parse_slot(disk: Disk, offset: int, raw: bytes) -> Slot | None:
    parsed = unpack_header(raw)
    if parsed is None:
        return None
    identity, state = parsed
    geometry = identity.geometry
    if offset not in (0, geometry.slot_bytes):
        return None
    open_raw = _read(disk, offset + geometry.block_size, geometry.block_size)
    return Slot(int(offset > 0), identity, state, raw, open_raw)


def _wrapping_key(identity: Identity, keystore: KeyStore, name: str) -> bytes:
    made, given = identity.key_mode, mode_of(keystore)
    if made in MODES and given in MODES and made != given:
        raise WrongKey(
            f"{name} was made with {MODES[made]}, and the key given is {MODES[given]}; "
            "give the one it was made with"
        )
    if isinstance(keystore, PassphraseStore):
        return keystore.derive(identity.salt, identity.cost)
    return keystore.get(identity.salt)


def _choose(slots: list[Slot]) -> tuple[Slot, Block | None]:
    for slot in slots:
        block = slot.open_block()
        if block is not None:
            return slot, block
    # A crash tears one slot at most: here both were damaged later, and the older commit is certain
    # to have been whole.
    return slots[-1], None


def _opened(
    disk: Disk, geometry: Geometry, block: Block, next_ordinal: int, vault: Vault
) -> tuple[OpenBlock, bool]:
    """The block to go on in, and whether that is past the slot's own."""
    size = geometry.block_size
    taken = _continued(disk, geometry, block, vault)
    if taken:
        opened = _after(taken, size)
        if (opened.number, len(opened.payload)) > (block.number, len(block.payload)):
            return opened, True
    return OpenBlock.resume(size, block, next_ordinal), False


def _continued(disk: Disk, geometry: Geometry, block: Block, vault: Vault) -> list[Block]:
    """Finished blocks that go on from an open block: what a torn commit left.

    Under one open id every block is finished once, so these conditions suffice. The first may have
    been sealed anew by the next owner of the file: then its records have to authenticate.
    """
    taken: list[Block] = []
    ordinal, prefix, open_id = block.ordinal, block.payload, block.open_id
    while len(taken) < geometry.live_blocks:
        number = block.number + len(taken)
        found = _read_block(disk, geometry, number)
        if found is None or found.number != number or found.ordinal != ordinal:
            break
        if found.open_id != open_id:
            if taken or not _resealed(block, found, geometry.block_size, vault):
                break
            open_id = found.open_id
        elif not found.payload.startswith(prefix):
            break
        taken.append(found)
        ordinal += sum(1 for _ in found.starts(geometry.block_size - BLOCK_HEADER_BYTES))
        prefix = b""
    return taken


def _resealed(block: Block, found: Block, size: int, vault: Vault) -> bool:
    """Whether `found` holds the records of `block` and maybe more, sealed under another open id."""
    capacity = size - BLOCK_HEADER_BYTES
    cipher = vault.records(found.open_id)
    base = found.number * size + BLOCK_HEADER_BYTES
    starts = list(found.starts(capacity))
    whole = [
        (o, *start)
        for o, start in enumerate(starts, found.ordinal)
        if start[0] + RECORD_HEADER_BYTES + start[2] <= len(found.payload)
    ]
    for ordinal, offset, kind, length in whole:
        body = found.payload[offset + RECORD_HEADER_BYTES :][:length]
        try:
            bound = associated(kind, ordinal, base + offset)
            cipher.decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], bound)
        except InvalidTag:
            return False
    before = list(block.starts(capacity))
    return bool(whole) and starts[: len(before)] == before and found.carried == block.carried


def _after(taken: list[Block], size: int) -> OpenBlock:
    """Where to go on behind these blocks; a record that has no end in them is cut off."""
    capacity = size - BLOCK_HEADER_BYTES
    whole = {frame.ordinal for frame in frames(((block.number, block) for block in taken), size)}
    for block in taken:
        for ordinal, (offset, _, _) in enumerate(block.starts(capacity), block.ordinal):
            if ordinal not in whole:
                cut = replace(block, payload=block.payload[:offset])
                return OpenBlock.resume(size, cut, ordinal)
    last = taken[-1]
    next_ordinal = last.ordinal + sum(1 for _ in last.starts(capacity))
    return OpenBlock(size, last.number + 1, next_ordinal, last.open_id)


def _tail(disk: Disk, geometry: Geometry, state: State, head: int) -> tuple[int, int]:
    """The oldest block that was not overwritten since, and the first ordinal in it."""
    tail = state.tail
    while tail < head:
        block = _read_block(disk, geometry, tail)
        if block is None:
            break
        if block.number == tail and tail > state.tail:
            return tail, min(max(block.ordinal, state.first_ordinal), state.next_ordinal)
        if block.number <= tail or (block.number - tail) % geometry.blocks:
            break
        tail += 1
    return tail, state.first_ordinal


def _blocks(
    disk: Disk, geometry: Geometry, tail: int, opened: OpenBlock
) -> Iterator[tuple[int, Block | None]]:
    """The live blocks in order, the open one last; None for a damaged one."""
    size = geometry.block_size
    number = tail
    while number < opened.number:
        run = min(_CHUNK_BLOCKS, opened.number - number, geometry.blocks - number % geometry.blocks)
        raw = _read(disk, geometry.offset(number), run * size)
        whole = len(raw) == run * size
        for index in range(run):
            piece = memoryview(raw)[index * size : (index + 1) * size]
            block = parse_block(piece, size) if whole else _read_block(disk, geometry, number)
            yield number, block if block is not None and block.number == number else None
            number += 1
    yield opened.number, opened.block()


def _noted(
    blocks: Iterable[tuple[int, Block | None]], openings: list[tuple[int, bytes]]
) -> Iterator[tuple[int, Block | None]]:
    """The same blocks; enters in `openings` where each open id begins."""
    for number, block in blocks:
        if block is not None and (not openings or openings[-1][1] != block.open_id):
            openings.append((number, block.open_id))
        yield number, block


def _enter(records: Iterable[Frame], directory: Directory, vault: Vault) -> None:
    """Add the records that authenticate; of a repeated event, the newest counts."""
    ciphers: dict[bytes, AESGCM] = {}
    newest: dict[bytes, int] | None = None
    for frame in records:
        if frame.ordinal < directory.next:
            continue
        cipher = ciphers.get(frame.open_id)
        if cipher is None:
            cipher = ciphers[frame.open_id] = vault.records(frame.open_id)
        bound = associated(frame.kind, frame.ordinal, frame.position)
        try:
            plain = cipher.decrypt(frame.body[:NONCE_BYTES], frame.body[NONCE_BYTES:], bound)
        except InvalidTag:
            continue
        if frame.kind & ~PINNED != EVENT:
            directory.put(frame.ordinal, frame.position, frame.kind)
            continue
        if newest is None:
            newest = directory.newest()
        name = event_id(plain)
        directory.put(frame.ordinal, frame.position, frame.kind, name)
        earlier = newest.get(name)
        if earlier is not None:
            directory.supersede(earlier)
        newest[name] = frame.ordinal


def _read_block(disk: Disk, geometry: Geometry, number: int) -> Block | None:
    size = geometry.block_size
    return parse_block(_read(disk, geometry.offset(number), size), size)


def _read(disk: Disk, offset: int, size: int) -> bytes:
    """Bytes of the file; none where the medium cannot be read."""
    try:
        return disk.pread(offset, size)
    except OSError as error:
        _log.warning("cannot read %d bytes at %d: %s", size, offset, error)
        return b""
