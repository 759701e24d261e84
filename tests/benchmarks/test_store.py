from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from bench import edits as bench_edits
from bench import store
from bench.edits import BEGAN_MS, LINES, SNIPPET_CHARACTERS, TooFewSources, edits
from localmem_protocol.events import parse_draft


def test_edits_are_valid_events_each_snippet_once_and_always_later() -> None:
    made = list(edits(500))
    drafts = [parse_draft(fields) for fields in made]
    assert len({draft.snippet for draft in drafts}) == 500
    assert all(len(draft.snippet) <= SNIPPET_CHARACTERS for draft in drafts)
    assert all(draft.snippet.count("\n") < LINES for draft in drafts)
    moments = [draft.timestamp for draft in drafts]
    assert moments == sorted(set(moments))
    assert moments[0] > BEGAN_MS
    assert list(islice(edits(501), 500)) == made


def test_more_edits_than_there_are_sources_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("x = 1\n" * 10 + "y = 2\n" * 5)
    monkeypatch.setattr(bench_edits, "_files", lambda chance: [("a.py", tmp_path / "a.py")])
    assert len(list(edits(2))) == 2
    with pytest.raises(TooFewSources, match="2 pieces; ask for fewer than 3"):
        list(edits(3))


def test_the_store_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--events", "300", "--sizes", "10 KiB,1 MiB", "--appends", "20"]
    store.main([*arguments, "--open-size", "2 MiB", "--json"])
    result = json.loads(capsys.readouterr().out)
    held = {name: row["events"] for name, row in result["held"].items()}
    assert 10 < held["10 KiB, vectors: none"] < 100
    assert (
        1000
        < held["1 MiB, vectors: one by one"]
        < held["1 MiB, vectors: in tens"]
        < held["1 MiB, vectors: none"]
    )
    sizes = result["bytes"]["event"]
    assert sizes["floor_framed"] < sizes["in_ring"] < sizes["row"]
    assert 384 < sizes["vector"] < sizes["vector_alone"]
    assert all(row["p50_ms"] <= row["p99_ms"] for row in result["append"].values())
    for row in result["open"].values():
        assert row["events"] == 300
        assert 0 < row["open_ms"] < row["ready_ms"] < row["answer_ms"]
        assert row["daemon_ms"] > 0
