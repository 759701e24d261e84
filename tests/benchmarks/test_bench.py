from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from bench import search_time
from bench.__main__ import BENCHMARKS, main
from bench.report import print_table


def test_the_list_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    named = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert named == list(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_a_main(name: str) -> None:
    assert callable(importlib.import_module(BENCHMARKS[name][0]).main)


@pytest.mark.parametrize("arguments", [[], ["nothing"]])
def test_no_benchmark_of_that_name_is_an_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "there are eviction, git" in capsys.readouterr().err


def test_a_benchmark_that_cannot_run_says_why_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["git", "--repo", str(tmp_path / "missing")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("bench: ")
    assert error.count("\n") == 1


def test_a_search_is_timed_at_every_size(capsys: pytest.CaptureFixture[str]) -> None:
    search_time.main(["--events", "20,50", "--json"])
    sizes = json.loads(capsys.readouterr().out)["sizes"]
    assert list(sizes) == ["20", "50"]
    assert all(value > 0 for row in sizes.values() for value in row.values())


def test_a_table_is_aligned_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "value"], [["a", 1.23456], ["longer", 7]])
    assert capsys.readouterr().out.splitlines() == [
        "| name   | value |",
        "|--------|-------|",
        "| a      | 1.23  |",
        "| longer | 7     |",
    ]
