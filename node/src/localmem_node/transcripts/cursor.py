"""Transcripts of Cursor: projects/<folder>/agent-transcripts/<id>/<id>.jsonl, formerly <id>.txt.

They have no ids, no results and hardly a time, so an event is known by what it says, and a turn by its
prompt: if that was captured, all of the turn was. What a command printed is not in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from localmem_node.editors import cursor as hooks
from localmem_node.editors.drafting import Drafting, Events
from localmem_node.editors.texts import (
    digest_of,
    fields_in,
    label_of,
    message_text,
    path_of,
    text_in,
)
from localmem_node.transcripts.found import Found, spoken

ENTRIES_MAX: Final = 4_096
"""Entries of one folder that are looked at for the one that a name stands for."""

DEPTH_MAX: Final = 16

_QUERY: Final = re.compile(r"<user_query>\s?(.*?)\s?</user_query>", re.DOTALL)
_TIME: Final = re.compile(
    r"<timestamp>\w+, (\w{3}) (\d{1,2}), (\d{4}), (\d{1,2}):(\d{2}) (AM|PM) "
    r"\(UTC([+-]\d{1,2})?(?::?(\d{2}))?\)</timestamp>"
)
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_NOT_SLUG: Final = re.compile(r"[^A-Za-z0-9]+")
_TEXT_PARTS: Final = re.compile(r"^\[(?:Tool call|Tool result|Thinking)\]", re.MULTILINE)


class CursorTranscript:
    """Implements `Reader`. `session` is the conversation; `agent` marks that of a subagent in it."""

    def __init__(
        self, session: str, folder: str | None, modified_ms: int, agent: str | None = None
    ) -> None:
        self._session, self._folder, self._agent = label_of(session), folder, agent
        self._time_ms = modified_ms
        self._said, self._said_at = "", 0

    def head(self, fields: Mapping[str, Any]) -> None:
        """Nothing: the file's name says it all."""

    def needed(self) -> int | None:
        """Where the last thing is that may turn out to be an answer."""
        return self._said_at if self._said else None

    def feed(self, fields: Mapping[str, Any], offset: int) -> Sequence[Found]:
        """A record of the transcript."""
        message = fields_in(fields, "message")
        content = message.get("content", fields.get("content"))
        role = fields.get("role") or fields.get("type")
        if role == "user":
            return [*self._answered(), *self._prompt(message_text(content))]
        if role == "assistant":
            return self._assistant(content, offset)
        return self._answered() if role == "turn_ended" else ()

    def finish(self) -> Sequence[Found]:
        """The last answer."""
        return self._answered()

    def _drafting(self) -> Drafting:
        return Drafting("cursor", self._session, self._folder, self._time_ms)

    def _prompt(self, text: str) -> list[Found]:
        self._time_ms = time_in(text) or self._time_ms
        asked = "\n".join(_QUERY.findall(text)) or spoken(text)
        if self._agent is not None or not asked.strip():
            return []
        events = hooks.prompt(self._drafting(), None, asked)
        return [Found(one, self._folder, opens=True) for one in events]

    def _assistant(self, content: object, offset: int) -> Sequence[Found]:
        events: Events = ()
        for block in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            if not isinstance(block, Mapping):
                continue
            if block.get("type") == "tool_use":
                self._said = ""
                events += self._tool(text_in(block, "name"), fields_in(block, "input"))
            elif text := text_in(block, "text"):
                self._said, self._said_at = text, offset
        return [Found(one, self._folder, within=True) for one in events]

    def _tool(self, name: str, arguments: Mapping[str, Any]) -> Events:
        drafting = self._drafting()
        if self._agent is not None:
            return ()
        if name in hooks.SHELLS:
            return hooks.command(drafting, None, text_in(arguments, "command"), "")
        path = path_of(text_in(arguments, "path", "file_path", "target_file"), self._folder)
        if name in hooks.EDITS and path:
            return hooks.edit(drafting, None, path, hooks.new_text(arguments))
        return ()

    def _answered(self) -> list[Found]:
        text, self._said = self._said, ""
        drafting = self._drafting()
        if self._agent is None:
            events = hooks.answered(drafting, None, text)
        else:
            key = drafting.key("subagent", digest_of(text))
            events = drafting.answer(text, key, agent="subagent")
        return [Found(one, self._folder) for one in events]


def records_of_text(text: str) -> Iterator[dict[str, Any]]:
    """The records that an old transcript of plain text would have had: prompts and answers."""
    role, lines = "", list[str]()
    for line in [*text.splitlines(), "user:"]:
        if line not in ("user:", "assistant:"):
            lines.append(line)
            continue
        said = "\n".join(lines).strip()
        if role == "assistant":
            said = _TEXT_PARTS.split(said)[0].strip()
        if role and said:
            yield {"role": role, "message": {"content": [{"type": "text", "text": said}]}}
        role, lines = line.removesuffix(":"), []


def time_in(text: str) -> int | None:
    """The time that Cursor wrote above a prompt, in milliseconds since 1970."""
    found = _TIME.search(text[:1_000])
    if found is None or found[1] not in _MONTHS:
        return None
    hour = int(found[4]) % 12 + (12 if found[6] == "PM" else 0)
    ahead = int(found[7] or 0)
    minutes = 60 * ahead + (int(found[8] or 0) if ahead >= 0 else -int(found[8] or 0))
    try:
        zone = timezone(timedelta(minutes=minutes))
        day = (int(found[3]), _MONTHS.index(found[1]) + 1, int(found[2]))
        moment = datetime(*day, hour, int(found[5]), tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return round(moment.timestamp() * 1000)


def folder_of(slug: str, root: Path = Path("/")) -> str | None:
    """The folder whose path Cursor wrote as `slug`, with dashes for whatever is no letter or digit;
    None if there is none now, or more than one.
    """
    found = list(_folders(root, slug, DEPTH_MAX))
    return found[0] if len(found) == 1 else None


def _folders(folder: Path, rest: str, depth: int) -> Iterator[str]:
    try:
        names = sorted(
            one.name for one, _ in zip(folder.iterdir(), range(ENTRIES_MAX), strict=False)
        )
    except OSError:
        return
    for name in names:
        part = _NOT_SLUG.sub("-", name).strip("-")
        if not part or not (rest == part or rest.startswith(f"{part}-")):
            continue
        inner = folder / name
        if not inner.is_dir():
            continue
        if rest == part:
            yield str(inner)
        elif depth:
            yield from _folders(inner, rest[len(part) + 1 :], depth - 1)
