"""What is forgotten without a daemon waits for the pools that this device is in."""

from pathlib import Path

from localmem_node import Memory
from localmem_node.config import load_settings
from localmem_node.opening import open_engine
from localmem_node.sync.outbox import open_journal, open_told
from localmem_node.sync.pool_files import POOLS, PoolFiles, PoolRecord
from localmem_node.sync.sharing import NOTHING
from localmem_node.sync.standing import Standing, identity_of
from localmem_node.sync.untold import PURPOSE, Untold
from localmem_node.system import SystemClock
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.roster import Author, encode_entry, found, pool_id_of
from localmem_protocol.tombstones import TombstoneKey
from support.daemon import environment
from support.events import fields
from support.seeded import SeededRandom


def test_it_is_told_to_every_pool_by_the_next_daemon(tmp_path: Path) -> None:
    variables, random = environment(tmp_path / "home"), SeededRandom(1)
    settings = load_settings(variables)
    files = PoolFiles(settings.state_dir / POOLS)
    engine = open_engine(settings, clock=SystemClock())
    identity = identity_of(engine)
    engine.close()
    author = Author(identity.device, identity.keys)
    pools = []
    for name in ("one", "two", "damaged"):
        first = encode_entry(found(author, random, 1, DeviceKeys.generate(random).public))
        pools.append(pool_id_of(first))
        files.save(PoolRecord(pools[-1], "https://hub.example.org", name, NOTHING))
        Standing(files, pools[-1], identity).learn([first])
    damaged = pools.pop()
    roster = files.roster(damaged)
    files.save_roster(damaged, b"\xc1")
    with Memory.embedded(environment=variables) as memory:
        event = memory.record_event(fields())
        assert memory.forget([event.id]) == 1
    engine = open_engine(settings, clock=SystemClock())
    untold = Untold(files, engine.derive_key(PURPOSE), random)
    engine.close()
    assert untold.ids(damaged) == [event.id]
    files.save_roster(damaged, roster)
    (key,) = Standing(files, damaged, identity).epochs().values()
    told = open_told(files, identity.device, key, untold)
    assert told.load().outbox == (TombstoneKey(key).of(event.id),)
    told.close()
    assert untold.ids(damaged) == []
    for pool in pools:
        (key,) = Standing(files, pool, identity).epochs().values()
        journal = open_journal(files, identity.device, pool, 1)
        assert journal.load().outbox == (TombstoneKey(key).of(event.id),)
        journal.close()
