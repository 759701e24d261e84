"""No nonce comes twice under one key: not after a fork, not in two copies of one file."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

from localmem_node.store.blocks import NONCE_BYTES, frames, parse_block
from localmem_node.store.event_store import EventStore
from localmem_node.store.layout import Geometry
from localmem_node.store.opening import open_event_store
from localmem_node.system import SystemRandom
from support.events import event
from support.store_keys import FixedKeyStore

SIZE = 1024 * 1024


def open_store(path: Path) -> EventStore:
    return open_event_store(path, FixedKeyStore(), SystemRandom(), size=SIZE)


def sealings(path: Path) -> set[tuple[bytes, bytes, bytes]]:
    """(open id, nonce, ciphertext) of every record in every block of a file, live or not."""
    geometry = Geometry.of(SIZE)
    image = path.read_bytes()
    size = geometry.block_size
    places = [size, 3 * size, *(geometry.offset(number) for number in range(geometry.blocks))]
    found: set[tuple[bytes, bytes, bytes]] = set()
    for place in places:
        block = parse_block(image[place : place + size], size)
        if block is not None:
            for frame in frames([(block.number, block)], size):
                found.add((frame.open_id, frame.body[:NONCE_BYTES], frame.body[NONCE_BYTES:]))
    return found


def assert_none_repeats(found: set[tuple[bytes, bytes, bytes]]) -> None:
    """One key and nonce have one ciphertext."""
    times = Counter((open_id, nonce) for open_id, nonce, _ in found)
    assert max(times.values()) == 1


def test_a_forked_process_and_its_parent_share_a_key_and_no_nonce(tmp_path: Path) -> None:
    path, copy = tmp_path / "ring", tmp_path / "copy"
    store = open_store(path)
    store.append([event(1)])
    store.commit()
    shutil.copy(path, copy)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:  # the same keys, the same state of everything, another file under its feet
        status = 1
        try:
            os.dup2(os.open(copy, os.O_RDWR), store.file.ring._disk._fd)  # type: ignore[attr-defined]
            store.append([event(number, snippet=f"child {number}") for number in range(2, 60)])
            store.commit()
            status = 0
        finally:
            os._exit(status)
    os.close(read_end)
    os.close(write_end)
    store.append([event(number, snippet=f"parent {number}") for number in range(2, 60)])
    store.commit()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ours, theirs = sealings(path), sealings(copy)
    shared = {open_id for open_id, _, _ in ours} & {open_id for open_id, _, _ in theirs}
    written = [
        {one for one in found if one[0] in shared} for found in (ours - theirs, theirs - ours)
    ]
    assert min(map(len, written)) > 50, "both wrote under the same key"
    assert_none_repeats(ours | theirs)
    store.close()


def test_two_copies_of_a_file_that_both_go_on_share_no_nonce(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    with open_store(paths[0]) as store:
        store.append([event(number) for number in range(1, 30)])
    shutil.copy(*paths)
    for path in paths:
        for life in range(3):
            with open_store(path) as store:
                store.append([event(100 + life, snippet=f"{path.name} {life}")])
    assert_none_repeats(sealings(paths[0]) | sealings(paths[1]))


def test_over_many_lives_of_one_store_no_nonce_repeats(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    found: set[tuple[bytes, bytes, bytes]] = set()
    for life in range(20):
        with open_store(path) as store:
            for number in range(3):
                store.append([event(10 * life + number)])
                store.commit()
                found |= sealings(path)
    assert len(found) > 60
    assert_none_repeats(found)
