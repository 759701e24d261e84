"""Readers of transcripts take any JSON there is: what they find is valid, and each once."""

from __future__ import annotations

import json
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from localmem_node.cli.transcripts import imported
from localmem_node.config import load_settings
from localmem_node.transcripts.sources import Kind
from support.capturing_daemon import CapturingDaemon
from support.editor_fixtures import CLAUDE_PROJECTS, CODEX_SESSIONS, CURSOR_PROJECTS

FOLDERS: dict[Kind, Path] = {
    "claude-code": CLAUDE_PROJECTS,
    "codex": CODEX_SESSIONS,
    "cursor": CURSOR_PROJECTS,
}
TRANSCRIPTS = [
    (kind, path.name, path.read_text("utf-8").splitlines())
    for kind, folder in FOLDERS.items()
    for path in sorted(folder.rglob("*.jsonl"))
]
WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 2**70, 1.5, "", "\ud800", "\0a", "x" * 5_000, [], {}, [None], {"text": 5},
     [{"type": "text", "text": None}], [{"type": []}], "0001-01-01T00:00:00-14:00", "C:\\x", "../a"]
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) in a JSON value."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    inner = [place for key in keys for place in places(value[key])]
    return [*((value, key) for key in keys), *inner]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Kind, str, list[Any]]:
    """A real transcript in which a few values are others, or records come in another order."""
    kind, name, lines = draw(st.sampled_from(TRANSCRIPTS))
    records = [json.loads(line) for line in lines]
    for _ in range(draw(st.integers(1, 6))):
        holder, key = draw(st.sampled_from(places(records)))
        holder[key] = deepcopy(draw(WRONG))  # a list of them may be changed next
    return kind, name, draw(st.permutations(records)) if draw(st.booleans()) else records


@given(damaged())
@example(
    ("codex", "rollout-x.jsonl", [{"type": "response_item", "payload": {"type": [], "id": "a"}}])
)
def test_a_real_transcript_with_values_that_are_wrong(one: tuple[Kind, str, list[Any]]) -> None:
    kind, name, records = one
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "project" / name
        path.parent.mkdir()
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        settings = load_settings({"LOCALMEM_HOME": f"{folder}/home"})
        daemon = CapturingDaemon()  # holds every event to the contract
        imported(kind, path, settings, {}, daemon)
        for again in (False, True):
            assert imported(kind, path, settings, {}, daemon, again=again).recorded == 0
