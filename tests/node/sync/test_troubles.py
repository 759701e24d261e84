"""What is wrong with a pool is said to people, with the device and the event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from localmem_node.config import load_settings
from localmem_node.doctor.pools import pool_checks
from localmem_node.sync.pool_files import POOLS, PoolFiles, PoolRecord
from localmem_node.sync.sharing import NOTHING
from localmem_node.sync.standing import Identity, Standing
from localmem_node.sync.troubles import SHOWN_MAX, notices_of, problems_of, untold
from support.daemon import environment
from support.pool_members import ONE as MEMBER
from support.pool_members import Team

ONE = "11" * 8


def problem(kind: str, sequence: int, label: str = "") -> dict[str, Any]:
    return {
        "kind": kind, "device": ONE, "client": 3, "clock": 5, "sequence": sequence,
        "reason": "it is so", "label": label,
    }  # fmt: skip


def pool(**more: Any) -> dict[str, Any]:
    return {
        "pool": "ours", "id": "a" * 32, "problems": [], "problem_count": 0, "error": None,
        "epochs_unread": [], "roster_notice": None, "settled": True, "state": "ready", **more,
    }  # fmt: skip


def test_the_newest_problems_come_first_with_device_kind_and_sequence() -> None:
    one = pool(problems=[problem("gap", 7), problem("replay", 8, "desk")], problem_count=2)
    assert list(problems_of(one)) == [
        f"replay: device desk ({ONE}), event 8, batch 5 of client 3: it is so",
        f"gap: device {ONE}, event 7, batch 5 of client 3: it is so",
    ]
    many = pool(problems=[problem("gap", n) for n in range(1, 17)], problem_count=40)
    said = list(problems_of(many))
    assert len(said) == SHOWN_MAX + 1
    assert "event 16" in said[0]
    assert said[-1].startswith("35 earlier ones")
    assert list(problems_of(pool())) == []


def test_what_is_to_be_known_is_said() -> None:
    unread = [{"epoch": 1, "problem": "no answer"}, {"epoch": 2, "problem": None}]
    said = list(notices_of(pool(epochs_unread=unread, roster_notice="it is shorter")))
    assert said[0] == "it is shorter"
    assert "epoch 1" in said[1]
    assert "no answer" in said[1]
    assert said[2].endswith(": 2")
    assert list(notices_of(pool())) == []
    assert untold(0) == ""
    assert "3 forgotten" in untold(3)
    assert "cannot be read" in untold(-1)


def test_the_doctor_has_a_check_for_each_pool() -> None:
    pools = [
        pool(),
        pool(problems=[problem("gap", 7)], problem_count=1),
        pool(error="no hub"),
        pool(epochs_unread=[{"epoch": 1, "problem": "no answer"}]),
        pool(roster_notice="it was given back"),
        pool(id="b" * 32),
    ]
    told = {"pools": pools, "damaged": {"c" * 32: "pool.json: bad"}, "untold": {}}
    told["untold"] = {"b" * 32: 2, "c" * 32: 1}
    (damaged, good, bad, failed, unread, restored, waiting) = pool_checks(
        None,  # type: ignore[arg-type]
        {"services": {"pools": told}},
    )
    assert (damaged.name, damaged.ok) == ("pool cccccccc", False)
    assert "pool.json: bad; 1 forgotten" in damaged.detail
    assert (good.ok, good.detail) == (True, "in sync")
    assert not bad.ok
    assert f"gap: device {ONE}, event 7" in bad.detail
    assert (failed.ok, failed.detail) == (False, "no hub")
    assert (unread.ok, restored.ok) == (False, True)
    assert restored.detail.endswith("it was given back")
    assert not waiting.ok
    assert all(one.advice for one in (damaged, bad, failed, unread, waiting))


def test_without_a_daemon_the_doctor_looks_at_the_files(tmp_path: Path) -> None:
    settings = load_settings(environment(tmp_path / "home"))
    files = PoolFiles(settings.state_dir / POOLS)
    assert list(pool_checks(settings, None)) == []
    for seed, name in enumerate(("good", "bad list", "bad record")):
        team = Team(seed)
        files.save(PoolRecord(team.pool, "https://hub.example.org", name, NOTHING))
        Standing(files, team.pool, Identity(ONE, team.keys[MEMBER])).learn(team.entries)
        if name == "bad list":
            files.save_roster(team.pool, b"\xc1")
        if name == "bad record":
            (settings.state_dir / POOLS / team.pool / "pool.json").write_bytes(b"{")
    checks = {
        one.detail.partition(":")[0].rpartition("/")[2]: one for one in pool_checks(settings, None)
    }
    assert sorted((name, one.ok) for name, one in checks.items()) == [
        ("its files are sound; the daemon is not running", True), ("pool.json", False), ("roster", False),
    ]  # fmt: skip
    assert "remove the file" in checks["roster"].detail
    assert "localmem pair" in checks["pool.json"].detail
