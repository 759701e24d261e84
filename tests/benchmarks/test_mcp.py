"""The benchmark of MCP, on a small store."""

from __future__ import annotations

import json

import pytest

from bench import mcp


def test_mcp_is_measured_in_tokens_memory_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    mcp.main(["--events", "40", "--queries", "4", "--starts", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    tokens = found["tokens"]
    assert 0 < tokens["instructions"] < tokens["tools"]
    assert 0 < tokens["answer_text"] < tokens["answer"] < tokens["whole"]
    assert found["daemon before"]["rss_mib"] < found["daemon after"]["rss_mib"]
    assert 0 < found["pump"]["rss_mib"] < found["daemon before"]["rss_mib"]
    assert min(found["time"].values()) > 0


def test_the_table_has_a_row_for_each_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mcp, "measure", lambda *_: {"pump": {"rss_mib": 1.5}, "time": {"x_ms": 2}})
    mcp.main([])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| pump | rss_mib  | 1.5   |",
        "| time | x_ms     | 2     |",
    ]
