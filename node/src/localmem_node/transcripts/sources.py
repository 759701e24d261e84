"""Where editors keep their transcripts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from localmem_node.errors import TransferError
from localmem_node.transcripts.claude_code import ClaudeTranscript
from localmem_node.transcripts.codex import CodexRollout
from localmem_node.transcripts.cursor import CursorTranscript, folder_of
from localmem_node.transcripts.found import Reader

Kind = Literal["claude-code", "codex", "cursor", "claude-mem"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
NAMES: Final[Mapping[Kind, str]] = {
    "claude-code": "Claude Code",
    "codex": "Codex",
    "cursor": "Cursor",
    "claude-mem": "claude-mem",
}
_SUFFIXES: Final[Mapping[Kind, tuple[str, ...]]] = {
    "claude-code": (".jsonl",),
    "codex": (".jsonl", ".jsonl.zst"),
    "cursor": (".jsonl", ".txt"),
    "claude-mem": (".db",),
}
_META_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """A transcript file, and when it was last written (ms since 1970)."""

    path: Path
    modified_ms: int


def sources_of(kind: Kind, path: Path | None, environment: Mapping[str, str]) -> list[Source]:
    """The transcripts in `path`, a file or folder, or where `kind` keeps them; oldest first.

    Raises TransferError if there is nothing of the kind.
    """
    places = [path] if path is not None else _places(kind, environment)
    files = [one for place in places for one in _files(kind, place)]
    if not files and (path is None or not path.exists()):
        where = ", ".join(map(str, places))
        raise TransferError(f"{where}: nothing of {NAMES[kind]} is there; name a PATH")
    if not files:
        raise TransferError(f"{path}: no transcript of {NAMES[kind]} is in it")
    if kind == "cursor":  # of a conversation in both forms, the one that has more in it
        stems = {one.stem for one in files if one.suffix == ".jsonl"}
        files = [one for one in files if one.suffix == ".jsonl" or one.stem not in stems]
    found = [Source(one, _modified_ms(one)) for one in dict.fromkeys(files)]
    return sorted(found, key=lambda one: (one.modified_ms, one.path))


def reader_of(kind: Kind, source: Source) -> Reader:
    """What reads a transcript of a kind, from its first record."""
    path = source.path
    if kind == "claude-code":
        return ClaudeTranscript(source.modified_ms, _agent_type(path))
    if kind == "codex":
        return CodexRollout(source.modified_ms)
    session, agent = path.stem, None
    if path.parent.name == "subagents":
        session, agent = path.parent.parent.name, path.stem
    slugs = [
        above.parent.name for above in path.absolute().parents if above.name == "agent-transcripts"
    ]
    folder = folder_of(slugs[0]) if slugs else None
    return CursorTranscript(session, folder, source.modified_ms, agent)


def place_of(kind: Kind, environment: Mapping[str, str]) -> Path:
    """The folder, or the database, in which `kind` keeps what it writes down."""
    return _places(kind, environment)[0]


def _places(kind: Kind, environment: Mapping[str, str]) -> list[Path]:
    home = Path(os.path.expanduser("~"))

    def set_or(name: str, default: Path) -> Path:
        return Path(environment[name]).expanduser() if environment.get(name) else default

    if kind == "claude-code":
        return [set_or("CLAUDE_CONFIG_DIR", home / ".claude") / "projects"]
    if kind == "codex":
        codex = set_or("CODEX_HOME", home / ".codex")
        return [codex / "sessions", codex / "archived_sessions"]
    if kind == "cursor":
        return [home / ".cursor" / "projects"]
    return [set_or("CLAUDE_MEM_DATA_DIR", home / ".claude-mem") / "claude-mem.db"]


def _files(kind: Kind, place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for folder, folders, names in os.walk(place):
        folders.sort()
        inside = Path(folder)
        if kind == "cursor" and "agent-transcripts" in folders:
            folders[:] = ["agent-transcripts"]  # beside it is much that is no transcript
        for name in sorted(names):
            wanted = name.endswith(_SUFFIXES[kind])
            if wanted and (kind != "codex" or name.startswith("rollout-")):
                yield inside / name


def _modified_ms(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return 0


def _agent_type(path: Path) -> str | None:
    """The type of the subagent whose transcript this is, from the file beside it."""
    if path.parent.name != "subagents":
        return None
    try:
        with path.with_suffix(".meta.json").open("rb") as file:
            meta = msgspec.json.decode(file.read(_META_BYTES_MAX))
    except (OSError, msgspec.DecodeError):
        return None
    value = meta.get("agentType") if isinstance(meta, dict) else None
    return value if isinstance(value, str) and value else None
