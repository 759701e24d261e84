"""The SQLite database of claude-mem: what it observed, its summaries of sessions, and prompts.

Its versions name some columns differently and have more or fewer of them; whatever there is, is read.
It may be in use meanwhile: it is opened for reading alone, and every table is read up to the row that
was its last. Prompts have the keys that hooks and transcripts of the same session give them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from localmem_node.editors.captured import Captured, key_of
from localmem_node.editors.texts import (
    bounded,
    digest_of,
    label_of,
    path_of,
    text_in,
    whole_in,
)
from localmem_node.errors import TransferError
from localmem_node.transcripts.found import Found, moment_of, spoken
from localmem_node.transcripts.importing import CHECKPOINT_EVENTS
from localmem_node.transcripts.progress import Mark, Progress
from localmem_node.transcripts.records import records_from
from localmem_node.transcripts.sending import Imported, Sender
from localmem_node.transcripts.sources import Source
from localmem_protocol.errors import EventError
from localmem_protocol.events import parse_draft

TOOL: Final = "claude-mem"
BUSY_S: Final = 5.0
TEXT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of one value that are read; longer ones are cut."""

SESSIONS_MAX: Final = 4_096
"""Sessions whose folder is remembered while it runs."""

LINES_MAX: Final = 50
"""Lines of a transcript that are looked at for the folder of its session."""

_SECONDS_MAX: Final = 10**11
"""A time below this is in seconds: in milliseconds it would be before 1973."""

_PLATFORMS: Final[Mapping[str, str]] = {
    "claude": "claude-code",
    "claude-code": "claude-code",
    "codex": "codex",
    "cursor": "cursor",
}
_SUMMARY: Final = ("request", "investigated", "learned", "completed", "next_steps", "notes")
_TABLES: Final = ("user_prompts", "observations", "session_summaries")

FolderOf = Callable[[str], str | None]
"""(a session of Claude Code) → where it worked, if that is known."""


@dataclass(frozen=True, slots=True)
class _Session:
    """A session by the editor's id for it, the editor, and claude-mem's name of the project."""

    id: str | None
    tool: str
    project: str | None


def import_database(
    source: Source,
    sender: Sender,
    report: Imported,
    progress: Progress,
    folder_of: FolderOf,
    since_ms: int | None = None,
) -> None:
    """Import a database from the rows where the last import ended.

    Raises TransferError if it is none of claude-mem, and what the daemon reports.
    """
    found = source.path.stat()
    mark = progress.load(source.path, found, since_ms)
    rows = dict(mark.rows) if mark else {}

    def save(*, done: bool = False) -> None:
        place = Mark(
            inode=found.st_ino,
            size=found.st_size,
            modified_ns=found.st_mtime_ns,
            done=done,
            since_ms=since_ms,
            rows=dict(rows),
        )
        progress.save(source.path, place)

    try:
        with closing(_open(source.path)) as database:
            tables = [name for name in _TABLES if _columns(database, name)]
            if not tables:
                raise TransferError(f"{source.path}: is no database of claude-mem")
            sessions = _sessions(database)
            for table in tables:
                last = _last(database, table)
                begin = rows.get(table, 0)
                # Rows that were counted and are gone: another database in the same place.
                begin = begin if begin <= last else 0
                report.files += table == tables[0]
                for row, fields in _rows(database, table, begin, last):
                    report.lines += 1
                    for one in _found(table, fields, sessions, folder_of):
                        sender.add(one)
                    if sender.waiting >= CHECKPOINT_EVENTS:
                        sender.flush()
                        rows[table] = row
                        save()
                sender.flush()
                rows[table] = last
    except sqlite3.Error as error:
        sender.flush()
        raise TransferError(f"{source.path}: cannot be read: {error}") from None
    save(done=True)


def folders_of_transcripts(projects: Path) -> FolderOf:
    """Where sessions of Claude Code worked, by their transcripts in `projects`."""
    known: dict[str, str | None] = {}

    def folder_of(session: str) -> str | None:
        if session not in known and len(known) < SESSIONS_MAX:
            known[session] = _folder(projects, session)
        return known.get(session)

    return folder_of


def _folder(projects: Path, session: str) -> str | None:
    if not all(letter.isalnum() or letter in "-_" for letter in session):
        return None
    for path in projects.glob(f"*/{session}.jsonl"):
        try:
            with path.open("rb") as stream:
                for _, record in zip(range(LINES_MAX), records_from(stream, 0), strict=False):
                    if folder := path_of((record.fields or {}).get("cwd")):
                        return folder
        except OSError:
            continue
    return None


def _open(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(os.fspath(path.absolute()))}?mode=ro"
    database = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 64 * TEXT_BYTES_MAX)
    database.text_factory = lambda data: data[:TEXT_BYTES_MAX].decode(errors="replace")
    return database


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def _last(database: sqlite3.Connection, table: str) -> int:
    (last,) = database.execute(f"SELECT max(rowid) FROM {table}").fetchone()  # noqa: S608
    return last or 0


def _rows(
    database: sqlite3.Connection, table: str, after: int, until: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row id, columns by name) of the rows after one, up to another."""
    names = _columns(database, table)
    query = f"SELECT rowid, * FROM {table} WHERE rowid > ? AND rowid <= ? ORDER BY rowid"  # noqa: S608
    for row, *values in database.execute(query, (after, until)):
        yield row, dict(zip(names, values, strict=True))


def _sessions(database: sqlite3.Connection) -> dict[str, _Session]:
    """Sessions under each of the ids that rows name them by."""
    sessions: dict[str, _Session] = {}
    names = _columns(database, "sdk_sessions")
    for values in database.execute("SELECT * FROM sdk_sessions") if names else ():
        fields = dict(zip(names, values, strict=True))
        own = text_in(fields, "content_session_id", "claude_session_id")
        tool = _PLATFORMS.get(text_in(fields, "platform_source") or "claude", TOOL)
        session = _Session(label_of(own), tool, label_of(fields.get("project")))
        for id_ in (own, text_in(fields, "memory_session_id", "sdk_session_id")):
            if id_:
                sessions[id_] = session
    return sessions


def _found(
    table: str, fields: Mapping[str, Any], sessions: Mapping[str, _Session], folder_of: FolderOf
) -> Iterator[Found]:
    named = text_in(
        fields, "content_session_id", "claude_session_id", "memory_session_id", "sdk_session_id"
    )
    session = sessions.get(named, _Session(label_of(named), TOOL, None))
    project = label_of(fields.get("project")) or session.project
    folder = folder_of(session.id) if session.id else None
    time_ms = _time_ms(fields)
    if time_ms is None:
        return
    event: dict[str, Any] = {"timestamp": time_ms, "session": session.id}
    if folder is None:
        event["project"] = project
    if table == "user_prompts":
        text = spoken(text_in(fields, "prompt_text"))
        key = key_of(session.id, "prompt", digest_of(text))
        event |= {"kind": "prompt", "snippet": bounded(text), "tool": session.tool}
    else:
        text = _observed(fields) if table == "observations" else _summarised(fields)
        key = key_of(session.id, table, str(time_ms), digest_of(text))
        event |= {"kind": "note", "snippet": bounded(text), "tool": TOOL}
        event["filePath"] = next((path for path in _files(fields, folder)), None)
    try:
        draft = parse_draft(event)
    except EventError:
        return
    yield Found(Captured(draft, key), folder)


def _observed(fields: Mapping[str, Any]) -> str:
    """An observation: its title, what it says, and its facts."""
    kind, title = text_in(fields, "type"), text_in(fields, "title")
    head = f"{kind}: {title}" if kind and title else title
    facts = [f"- {fact}" for fact in _listed(fields.get("facts"))]
    said = (head, text_in(fields, "subtitle"), text_in(fields, "narrative", "text"), *facts)
    return "\n".join(part for part in said if part)


def _summarised(fields: Mapping[str, Any]) -> str:
    """A summary of a session, part by part."""
    parts = [(name, text_in(fields, name)) for name in _SUMMARY]
    return "\n".join(f"{name.replace('_', ' ')}: {text}" for name, text in parts if text)


def _files(fields: Mapping[str, Any], folder: str | None) -> Iterator[str]:
    for name in ("files_modified", "files_edited", "files_read"):
        for value in _listed(fields.get(name)):
            if path := path_of(value, folder):
                yield path


def _listed(value: object) -> list[str]:
    """A list, written as JSON; older versions wrote some as text."""
    if not isinstance(value, str) or not value.strip():
        return []
    try:
        listed = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return [value]
    return [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []


def _time_ms(fields: Mapping[str, Any]) -> int | None:
    epoch = whole_in(fields, "created_at_epoch")
    if epoch is None or epoch <= 0:
        return moment_of(fields.get("created_at"))
    return epoch * 1000 if epoch < _SECONDS_MAX else epoch
