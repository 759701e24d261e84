"""claude-mem's database, of this year's form and of an older one, also while it is written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from localmem_node.cli.transcripts import imported
from localmem_node.config import Settings, load_settings
from localmem_node.editors.captured import Captured
from localmem_node.editors.drafting import nowhere
from localmem_node.editors.reading import read_hook
from localmem_node.errors import TransferError
from localmem_node.transcripts.sending import Imported
from localmem_protocol.events import Draft
from support.capturing_daemon import CapturingDaemon
from support.editor_fixtures import CLAUDE_PROJECTS, payload

SESSION = payload("claude-code", "Stop")["session_id"]
WHEN = 1_795_645_400_000

NOW = {
    "sdk_sessions": "id INTEGER PRIMARY KEY, content_session_id TEXT UNIQUE, memory_session_id TEXT,"
    " project TEXT, platform_source TEXT, user_prompt TEXT, started_at_epoch INTEGER",
    "observations": "id INTEGER PRIMARY KEY, memory_session_id TEXT, project TEXT, text TEXT,"
    " type TEXT, title TEXT, subtitle TEXT, facts TEXT, narrative TEXT, concepts TEXT,"
    " files_read TEXT, files_modified TEXT, prompt_number INTEGER, content_hash TEXT,"
    " created_at TEXT, created_at_epoch INTEGER",
    "session_summaries": "id INTEGER PRIMARY KEY, memory_session_id TEXT, project TEXT, request TEXT,"
    " investigated TEXT, learned TEXT, completed TEXT, next_steps TEXT, files_read TEXT,"
    " files_edited TEXT, notes TEXT, created_at TEXT, created_at_epoch INTEGER",
    "user_prompts": "id INTEGER PRIMARY KEY, content_session_id TEXT, prompt_number INTEGER,"
    " prompt_text TEXT, created_at TEXT, created_at_epoch INTEGER",
}  # fmt: skip
OLD = {
    "sdk_sessions": "id INTEGER PRIMARY KEY, claude_session_id TEXT, sdk_session_id TEXT,"
    " project TEXT",
    "observations": "id INTEGER PRIMARY KEY, sdk_session_id TEXT, project TEXT, text TEXT,"
    " type TEXT, created_at TEXT, created_at_epoch INTEGER",
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"LOCALMEM_HOME": str(tmp_path / "home")})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "claude-mem.db"


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        make(database, NOW)
        add(database, "sdk_sessions", content_session_id=SESSION, memory_session_id="m1",
            project="shop", platform_source="claude")  # fmt: skip
        yield database


def make(database: sqlite3.Connection, tables: dict[str, str]) -> None:
    for name, columns in tables.items():
        database.execute(f"CREATE TABLE {name} ({columns})")


def add(database: sqlite3.Connection, table: str, **fields: Any) -> None:
    names, marks = ", ".join(fields), ", ".join("?" * len(fields))
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(fields.values()))


def observe(database: sqlite3.Connection, title: str, **fields: Any) -> None:
    common: dict[str, Any] = {"memory_session_id": "m1", "project": "shop", "type": "bugfix"}
    when = {"created_at_epoch": WHEN}
    add(database, "observations", title=title, **{**common, **when, **fields})


def take(path: Path, settings: Settings, daemon: CapturingDaemon, **how: Any) -> Imported:
    environment = {"CLAUDE_CONFIG_DIR": str(how.pop("claude", path.parent / "nothing"))}
    return imported("claude-mem", path, settings, environment, daemon, **how)


def test_observations_summaries_and_prompts_become_events(
    path: Path, settings: Settings, database: sqlite3.Connection
) -> None:
    observe(
        database,
        "Tax was not applied",
        subtitle="price.py",
        narrative="The rate was 1.",
        facts=json.dumps(["rate is 0.19 now", 7]),
        files_modified=json.dumps(["price.py"]),
    )
    add(database, "session_summaries", memory_session_id="m1", project="shop", request="Set the tax",
        learned="Rates are decimals", next_steps="", created_at_epoch=WHEN + 1)  # fmt: skip
    add(database, "user_prompts", content_session_id=SESSION, prompt_number=1,
        prompt_text="Why is it 1?", created_at_epoch=WHEN // 1000)  # fmt: skip
    daemon = CapturingDaemon()
    report = take(path, settings, daemon)
    assert (report.lines, report.recorded) == (3, 3)
    prompt, observation, summary = [draft for draft, _ in daemon.kept]
    assert (prompt.kind, prompt.snippet, prompt.tool) == ("prompt", "Why is it 1?", "claude-code")
    assert observation == Draft(
        timestamp=WHEN,
        kind="note",
        snippet="bugfix: Tax was not applied\nprice.py\nThe rate was 1.\n- rate is 0.19 now",
        file_path="price.py",
        tool="claude-mem",
        session=SESSION,
        project="shop",
    )
    assert summary.snippet == "request: Set the tax\nlearned: Rates are decimals"
    assert {draft.timestamp for draft, _ in daemon.kept} == {WHEN, WHEN + 1}
    assert all(folder is None for _, folder in daemon.kept)


def test_a_session_whose_transcript_is_there_has_its_folder(
    path: Path, settings: Settings, database: sqlite3.Connection, tmp_path: Path
) -> None:
    (tmp_path / "claude").mkdir()
    (tmp_path / "claude" / "projects").symlink_to(CLAUDE_PROJECTS)
    observe(database, "Tax", files_modified='["price.py"]')
    daemon = CapturingDaemon()
    take(path, settings, daemon, claude=tmp_path / "claude")
    ((draft, folder),) = daemon.kept
    assert (draft.project, folder) == (None, "/home/dev/shop")
    assert draft.file_path == "/home/dev/shop/price.py"


def test_prompts_that_hooks_captured_are_known(
    path: Path, settings: Settings, database: sqlite3.Connection
) -> None:
    asked = payload("claude-code", "UserPromptSubmit")
    told: list[Captured] = list(read_hook("claude-code", asked, WHEN, nowhere).captured)
    daemon = CapturingDaemon()
    daemon.hooked(told)
    add(database, "user_prompts", content_session_id=SESSION, prompt_number=1,
        prompt_text=asked["prompt"], created_at_epoch=WHEN)  # fmt: skip
    report = take(path, settings, daemon)
    assert (report.known, report.recorded) == (1, 0)


def test_a_second_import_reads_only_what_was_added_while_claude_mem_writes(
    path: Path, settings: Settings, database: sqlite3.Connection
) -> None:
    daemon = CapturingDaemon()
    database.execute("BEGIN")
    for number in range(300):
        observe(database, f"title {number}", created_at_epoch=WHEN + number)
    database.execute("COMMIT")
    assert take(path, settings, daemon).recorded == 300
    database.execute("BEGIN IMMEDIATE")
    observe(database, "not yet committed")
    assert take(path, settings, daemon).lines == 0
    database.execute("COMMIT")
    report = take(path, settings, daemon)
    assert (report.lines, report.recorded) == (1, 1)
    assert max(daemon.calls) <= 256


def test_an_older_database_is_read_as_far_as_it_goes(path: Path, settings: Settings) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        make(database, OLD)
        add(database, "sdk_sessions", claude_session_id="c1", sdk_session_id="s1", project="shop")
        add(database, "observations", sdk_session_id="s1", project="shop", type="note",
            text="The rate is a decimal", created_at="2026-11-25T22:00:00.000Z")  # fmt: skip
        add(database, "observations", sdk_session_id="s1", type="note", text="undated")
        add(database, "observations", sdk_session_id="s1", type="note", text=b"\xff\xfe",
            created_at_epoch=WHEN)  # fmt: skip
    daemon = CapturingDaemon()
    report = take(path, settings, daemon)
    assert (report.lines, report.recorded) == (3, 1)
    ((draft, _),) = daemon.kept
    assert (draft.session, draft.snippet) == ("c1", "The rate is a decimal")


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"x" * 5_000, b"no database"])
def test_what_is_no_database_of_claude_mem_says_so(
    content: bytes, path: Path, settings: Settings
) -> None:
    path.write_bytes(content)
    with pytest.raises(TransferError, match=r"claude-mem\.db: (is no database|cannot be read)"):
        take(path, settings, CapturingDaemon())
    assert path.read_bytes() == content
