"""Where a device stands in a pool, by a roster that only grows."""

from pathlib import Path

import pytest

from localmem_node.errors import HubRefused, SyncError
from localmem_node.sync.pool_files import PoolFiles
from localmem_node.sync.roster_way import RosterAuthorship
from localmem_node.sync.standing import Identity, Standing
from localmem_protocol.errors import RosterError
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.roster import (
    Author,
    Entry,
    Roster,
    admit,
    encode_entry,
    found,
    pool_id_of,
    remove,
    rotate,
)
from support.seeded import SeededRandom

ONE, TWO = "11" * 8, "22" * 8
NOW = 1_760_000_000_000


class Pool:
    """A pool as its founder has it."""

    def __init__(self, seed: int) -> None:
        self.random = SeededRandom(seed)
        self.one, self.two = (DeviceKeys.generate(self.random) for _ in range(2))
        self.author = Author(ONE, self.one)
        recovery = DeviceKeys.generate(self.random).public
        first = found(self.author, self.random, NOW, recovery, label="laptop", name="ours")
        self.entries = [encode_entry(first)]
        self.roster = Roster.load(self.entries)

    def do(self, entry: Entry) -> bytes:
        self.roster.apply(entry)
        self.entries.append(encode_entry(entry))
        return self.entries[-1]

    def admit_two(self) -> bytes:
        return self.do(
            admit(
                self.roster, self.author, self.random, NOW, device=TWO, keys=self.two.public,
                role="member", label="desk",
            )
        )  # fmt: skip

    def standing(self, folder: Path, device: str = TWO) -> Standing:
        keys = self.one if device == ONE else self.two
        pool = pool_id_of(self.entries[0])
        return Standing(PoolFiles(folder), pool, Identity(device, keys))


@pytest.fixture
def pool() -> Pool:
    return Pool(1)


def test_a_member_has_place_names_and_keys_also_after_a_restart(pool: Pool, tmp_path: Path) -> None:
    pool.admit_two()
    standing = pool.standing(tmp_path)
    with pytest.raises(SyncError, match="nothing is known"):
        _ = standing.place
    assert standing.learn(pool.entries)
    assert not standing.learn([])
    for one in (standing, pool.standing(tmp_path)):
        assert (one.place, one.name, one.label(ONE), one.length) == ("member", "ours", "laptop", 2)
        (key,) = one.epochs().values()
        assert key.key == pool.roster.epoch_key(1, pool.one, ONE)
        assert (key.pool, key.epoch) == (pool.roster.pool_id, 1)


def test_whoever_was_removed_has_the_old_key_and_no_new_one(pool: Pool, tmp_path: Path) -> None:
    pool.admit_two()
    standing = pool.standing(tmp_path)
    standing.learn(pool.entries)
    standing.learn([pool.do(remove(pool.roster, pool.author, pool.random, NOW, TWO))])
    assert standing.place == "removed"
    assert list(standing.epochs()) == [1]
    assert (standing.role_at(TWO, 1), standing.role_at(TWO, 2)) == ("member", None)


def test_a_bad_entry_is_refused_and_the_good_ones_before_it_stay(
    pool: Pool, tmp_path: Path
) -> None:
    standing = pool.standing(tmp_path)
    standing.learn(pool.entries)
    good = pool.admit_two()
    other = Pool(2).admit_two()
    with pytest.raises(RosterError):
        standing.learn([good, other])
    assert standing.length == pool.standing(tmp_path).length == 2


def test_a_fork_or_another_pool_is_refused(pool: Pool, tmp_path: Path) -> None:
    standing = pool.standing(tmp_path)
    with pytest.raises(RosterError):
        standing.learn(Pool(2).entries)
    assert standing.length == 0
    standing.learn(pool.entries)
    fork = Pool(1)
    fork.admit_two()
    standing.learn([pool.do(rotate(pool.roster, pool.author, pool.random, NOW))])
    with pytest.raises(RosterError):
        standing.learn([fork.do(rotate(fork.roster, fork.author, fork.random, NOW))])
    assert standing.roster.epoch == 2


def test_a_damaged_file_is_named_and_not_believed(pool: Pool, tmp_path: Path) -> None:
    standing = pool.standing(tmp_path)
    standing.learn(pool.entries)
    path = tmp_path / standing.pool / "roster"
    data = path.read_bytes()
    for damaged in (data[:-1], b"\xc1", data.replace(b"laptop", b"laptop") + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(SyncError, match="damaged"):
            pool.standing(tmp_path)


def test_a_stranger_is_looked_up_once_in_a_newer_roster(tmp_path: Path) -> None:
    pool = Pool(3)
    standing = pool.standing(tmp_path, ONE)
    standing.learn(pool.entries)
    asked: list[int] = []

    def refresh() -> None:
        asked.append(standing.length)
        standing.learn(pool.entries[standing.length :])

    authorship = RosterAuthorship(standing, refresh)
    assert authorship.role_at(ONE, 1) == "owner"
    assert asked == []
    pool.admit_two()
    assert authorship.role_at(TWO, 1) == "member"
    assert authorship.role_at("33" * 8, 1) is None
    assert authorship.role_at("33" * 8, 1) is None
    assert asked == [1, 2]
    keys = authorship.keys_of(TWO)
    assert keys == pool.two.public


@pytest.mark.parametrize("error", [SyncError("no line"), HubRefused(503, "", "busy", {})])
def test_a_roster_that_cannot_be_asked_for_leaves_a_stranger_one(
    error: Exception, tmp_path: Path
) -> None:
    pool = Pool(4)
    standing = pool.standing(tmp_path, ONE)
    standing.learn(pool.entries)

    def refresh() -> None:
        raise error

    assert RosterAuthorship(standing, refresh).role_at(TWO, 1) is None
