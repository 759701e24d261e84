from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from bench import ignored_files, latency, redaction, search_time, vector_backends
from bench.__main__ import BENCHMARKS, main
from bench.planted_secrets import Drawn, planted
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
    assert f"there are {', '.join(BENCHMARKS)}" in capsys.readouterr().err


def test_a_benchmark_that_cannot_run_says_why_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["git", "--repo", str(tmp_path / "missing")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("bench: ")
    assert error.count("\n") == 1


def test_a_search_is_timed_at_every_size(capsys: pytest.CaptureFixture[str]) -> None:
    search_time.main(["--events", "20,50", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert list(result["sizes"]) == list(result["backends"]) == ["20", "50"]
    assert all(value > 0 for row in result["sizes"].values() for value in row.values())
    for kinds in result["backends"].values():
        assert kinds.keys() == vector_backends.BACKENDS.keys()
        assert kinds["exact f32"]["recall_at_10"] == 1
        for row in kinds.values():
            assert all(value > 0 for value in row.values())
            assert row["recall_at_10"] >= 0.95


def test_redaction_is_measured_beside_the_scan_of_detect_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "SEEDS", 1)
    secret = Drawn("bench").text(24)
    (tmp_path / "plain.py").write_text("def main() -> int:\n    return 0\n")
    (tmp_path / "secret.py").write_text(f'password = "{secret}"\nport = 80\n')
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe")
    redaction.main(["--path", str(tmp_path), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["files"], result["lines"]) == (2, 6)
    for side in ("localmem", "detect_secrets"):
        assert result[side]["lines"] == 1
        assert result[side]["us_per_line"] > 0
    assert result["localmem"]["by_kind"] == {"password": 1}
    assert result["planted_missed"]["localmem"] == 0
    assert 0 < result["planted_missed"]["detect_secrets"] < result["planted"]
    assert result["snippet_us"].keys() == result["hostile_ms"].keys()


def test_redaction_without_sources_says_so(tmp_path: Path) -> None:
    assert main(["redaction", "--path", str(tmp_path)]) == 1


def test_lines_that_go_with_their_secret_count_as_well() -> None:
    one = next(one for one in planted() if one.name == "pem RSA")
    found = redaction.Found()
    redaction.ours(one.text.split("\n"), found)
    assert found.lines == one.text.count("\n") - 1  # all but the first and the last


def test_asking_git_is_measured_beside_a_lasting_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ignored_files, "EVENTS", 10)
    ignored_files.main(["--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["remembered"]["wrong"] == 0
    assert result["a lasting process"]["wrong"] == 10


def test_a_table_is_aligned_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "value"], [["a", 1.23456], ["longer", 7]])
    assert capsys.readouterr().out.splitlines() == [
        "| name   | value |",
        "|--------|-------|",
        "| a      | 1.23  |",
        "| longer | 7     |",
    ]


def test_a_store_of_perturbed_vectors_is_asked_through_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(latency, "REAL_VECTORS", 5)
    monkeypatch.setattr(latency, "WARM_UP", 2)
    found = latency.measure(12, 3, real_max=10)
    assert found["perturbed"] == 7
    assert all(value > 0 for value in found.values())
