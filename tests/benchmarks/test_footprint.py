from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench import footprint
from bench.footprint import TICKS_PER_S, Cpu, arriving, cpu_of, memory_of, shares

_STAT = "7 (a (b) c) S 1 7 7 0 -1 0 0 0 0 0 {} {} {} {} 20 0 3 0 100\n"


def _task(proc: Path, thread: int, nanoseconds: int) -> Path:
    task = proc / "7" / "task" / str(thread)
    task.mkdir(parents=True)
    (task / "schedstat").write_text(f"{nanoseconds} 5 9\n")
    return task


def test_processor_time_is_that_of_the_threads_and_of_children_that_ended(tmp_path: Path) -> None:
    _task(tmp_path, 7, 1_500_000_000)
    _task(tmp_path, 8, 250_000_000)
    (tmp_path / "7" / "stat").write_text(_STAT.format(100, 50, TICKS_PER_S, TICKS_PER_S))
    before = cpu_of(7, tmp_path)
    assert (before.threads, before.children, before.total) == ({7: 1.5, 8: 0.25}, 2, 3.75)
    (tmp_path / "7" / "task" / "7" / "schedstat").write_text("2500000000 5 9\n")
    _task(tmp_path, 9, 500_000_000)
    taken = cpu_of(7, tmp_path).since(before)
    assert (taken.threads, taken.children) == ({7: 1, 8: 0, 9: 0.5}, 0)
    assert taken.busiest == 0.5  # the main thread apart


def test_a_kernel_without_schedstat_has_ticks(tmp_path: Path) -> None:
    task = _task(tmp_path, 7, 0)
    (task / "schedstat").unlink()
    for folder in (task, tmp_path / "7"):
        (folder / "stat").write_text(_STAT.format(TICKS_PER_S, TICKS_PER_S, 0, 0))
    assert cpu_of(7, tmp_path).total == 2


def test_this_process_takes_time_and_memory() -> None:
    assert cpu_of(os.getpid()).total > 0
    memory = memory_of(os.getpid())
    assert 0 < memory["anonymous_mib"] < memory["rss_mib"]
    assert memory["pss_mib"] <= memory["rss_mib"]


def test_what_an_event_takes_is_scaled_to_the_rate_and_rest_is_added() -> None:
    taken = Cpu({1: 0.5, 2: 1.2}, 0.4, main=1)
    found = shares(taken, seconds=50, events=100, idle_percent=0.2)
    assert found == {
        "cpu_ms_per_event": 20,  # 2.1 s less 0.1 s of rest
        "cpu_percent_at_1_per_5s": 0.6,
        "encoder_share": 0.571,
        "children_share": 0.19,
    }
    assert shares(taken, 10_000, 100, 1)["cpu_percent_at_1_per_5s"] == 1


def test_edits_arrive_four_to_a_file_of_the_checkout(tmp_path: Path) -> None:
    paths = [edit["filePath"] for edit in arriving(tmp_path, 12)]
    assert all(Path(path).is_relative_to(tmp_path) for path in paths)
    assert [paths.count(path) for path in dict.fromkeys(paths)] == [4, 4, 4]


def test_a_daemon_is_measured_with_and_without_events(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("STARTS", "CLI_RUNS", "QUERIES", "RARE_ARRIVALS"):
        monkeypatch.setattr(footprint, name, 1)
    arguments = [
        "--events",
        "12",
        "--arrivals",
        "5",
        "--pause",
        "0.01",
        "--rate",
        "0.01",
        "--idle",
        "0.05",
    ]
    footprint.main([*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    full = found["full"]
    assert full["events"] == 12
    assert full["cpu_ms_per_event"] > 0
    assert full["children_share"] >= 0
    assert 0 < full["encoder_share"] < 1
    assert full["cpu_percent_at_1_per_5s"] >= full["idle_cpu_percent"] >= 0
    assert 0 < found["empty"]["started"]["rss_mib"] < full["after_queries"]["rss_mib"]
    assert min(full[name] for name in ("cold_start_ms", "cli_ms", "cli_cold_ms")) > 0


def test_the_table_has_a_column_with_and_one_without_events(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = {"empty": {"started": {"rss_mib": 1.5}}, "full": {"events": 3}}
    monkeypatch.setattr(footprint, "measure", lambda *_: sample)
    footprint.main([])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| started rss_mib | 1.5   |      |",
        "| events          |       | 3    |",
    ]
