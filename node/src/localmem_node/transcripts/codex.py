"""Rollouts of Codex: sessions/YYYY/MM/DD/rollout-<time>-<thread>.jsonl, also packed (.zst).

A call of a tool and its output stand apart under one `call_id`, which is the hook's `tool_use_id`;
between them newer versions write an item with what really ran or changed, the exit code and the lines
among it. Where a call stands in no record of its own (a script that calls tools), the item is all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from localmem_node.editors import codex as hooks
from localmem_node.editors.drafting import (
    Drafting,
    Events,
    Locate,
    answered,
    nowhere,
    subagent_answered,
)
from localmem_node.editors.patches import changes_of_diff, lines_in_diff
from localmem_node.editors.texts import (
    digest_of,
    fields_in,
    label_of,
    message_text,
    path_of,
    text_in,
    whole_in,
)
from localmem_node.transcripts.found import PENDING_MAX, Found, moment_of, spoken

_CALLS: Final = frozenset({"function_call", "custom_tool_call", "local_shell_call"})
_OUTPUTS: Final = frozenset(
    {"function_call_output", "custom_tool_call_output", "local_shell_call_output"}
)
_REFUSED: Final = ("apply_patch verification failed", "exec command rejected", "patch rejected")


@dataclass(frozen=True, slots=True)
class _Call:
    """A tool's call that waits for its output, with the item that tells what it did."""

    offset: int
    call: hooks.ToolCall
    item: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Said:
    """What the model said last; its answer if nothing follows in the turn."""

    offset: int
    text: str
    drafting: Drafting
    turn: str | None


class CodexRollout:
    """Implements `Reader`."""

    def __init__(self, modified_ms: int) -> None:
        self._time_ms = modified_ms
        self._session: str | None = None
        self._folder: str | None = None
        self._thread: str | None = None
        self._subagent: str | None = None
        self._turn: str | None = None
        self._calls: dict[str, _Call] = {}
        self._said: _Said | None = None

    def head(self, fields: Mapping[str, Any]) -> None:
        """Whose rollout it is."""
        if fields.get("type") != "session_meta" or self._session is not None:
            return
        payload = fields_in(fields, "payload")
        self._thread = label_of(payload.get("id"))
        self._session = label_of(payload.get("session_id")) or self._thread
        self._folder = path_of(payload.get("cwd"))
        source = payload.get("source")
        if payload.get("thread_source") == "subagent" or isinstance(source, Mapping):
            self._subagent = _role(payload) or "subagent"

    def needed(self) -> int | None:
        """Where the oldest call without an output is, or what may turn out to be an answer."""
        offsets = [call.offset for call in self._calls.values()]
        return min([*offsets, self._said.offset] if self._said else offsets, default=None)

    def feed(self, fields: Mapping[str, Any], offset: int) -> Sequence[Found]:
        """A record of the rollout."""
        moment = moment_of(fields.get("timestamp"))
        self._time_ms = self._time_ms if moment is None else moment
        payload, kind = fields_in(fields, "payload"), fields.get("type")
        self.head(fields)
        if kind == "turn_context":
            self._turn = label_of(payload.get("turn_id")) or self._turn
            self._folder = path_of(payload.get("cwd")) or self._folder
        elif kind == "response_item":
            return self._item(payload, offset)
        elif kind == "event_msg":
            return self._event(payload, offset)
        elif kind == "compacted" and (text := text_in(payload, "message")):
            drafting = self._drafting()
            return self._found(drafting.note(text, drafting.key("summary", digest_of(text))))
        return ()

    def finish(self) -> Sequence[Found]:
        """The last answer."""
        return self._answered()

    def _drafting(self) -> Drafting:
        return Drafting("codex", self._session, self._folder, self._time_ms)

    def _found(self, events: Events) -> list[Found]:
        return [Found(one, self._folder) for one in events]

    def _item(self, payload: Mapping[str, Any], offset: int) -> Sequence[Found]:
        kind = text_in(payload, "type")
        if kind == "message":
            return self._message(payload, offset)
        id_ = label_of(payload.get("call_id")) or label_of(payload.get("id"))
        if id_ is None:
            return ()
        if kind in _CALLS:
            self._said = None
            while len(self._calls) >= PENDING_MAX:
                del self._calls[next(iter(self._calls))]
            self._calls[id_] = _Call(offset, _call(payload, id_))
        elif kind in _OUTPUTS and (waiting := self._calls.pop(id_, None)):
            return self._ran(waiting, payload.get("output"))
        return ()

    def _message(self, payload: Mapping[str, Any], offset: int) -> Sequence[Found]:
        role, content = payload.get("role"), payload.get("content")
        passed = fields_in(payload, "internal_chat_message_metadata_passthrough")
        turn = label_of(passed.get("turn_id")) or self._turn
        if role == "assistant" and payload.get("phase") != "commentary":
            if text := message_text(content):
                self._said = _Said(offset, text, self._drafting(), turn)
        elif role == "user":
            text = spoken(message_text(_written(content, passed.get("content_item_kinds"))))
            found = list(self._answered()) if text else []
            if text and self._subagent is None:
                self._turn = turn
                found += self._found(hooks.prompt(self._drafting(), turn, text))
            return found
        return ()

    def _event(self, payload: Mapping[str, Any], offset: int) -> Sequence[Found]:
        kind = payload.get("type")
        if kind == "task_started":
            self._turn = label_of(payload.get("turn_id")) or self._turn
        elif kind == "task_complete":
            text = text_in(payload, "last_agent_message")
            turn = label_of(payload.get("turn_id")) or self._turn
            self._said = _Said(offset, text, self._drafting(), turn) if text else self._said
            self._calls.clear()
            return self._answered()
        elif kind == "item_completed":
            item = fields_in(payload, "item")
            id_ = label_of(item.get("id")) or ""
            if waiting := self._calls.get(id_):
                self._calls[id_] = replace(waiting, item=item)
            else:
                return self._found(_of_item(self._drafting(), item, id_))
        return ()

    def _ran(self, waiting: _Call, output: object) -> Sequence[Found]:
        call, item = waiting.call, waiting.item or {}
        code, printed = hooks.result_of(output)
        if printed.startswith(_REFUSED):
            return ()
        locate: Locate = nowhere
        if item.get("type") == "CommandExecution":
            known = whole_in(item, "exit_code")
            code = code if known is None else known
            printed = text_in(item, "aggregated_output") or printed
        elif item.get("type") == "FileChange":
            locate = _in_diffs(fields_in(item, "changes"))
        ran = replace(call, response=printed, code=code)
        return self._found(hooks.tool(self._drafting(), ran, locate))

    def _answered(self) -> Sequence[Found]:
        said, self._said = self._said, None
        if said is None:
            return ()
        if self._subagent is None:
            return self._found(answered(said.drafting, said.turn, said.text))
        return self._found(
            subagent_answered(said.drafting, self._thread, self._subagent, said.text)
        )


def _call(payload: Mapping[str, Any], id_: str) -> hooks.ToolCall:
    name = label_of(payload.get("name")) or "local_shell"
    if space := label_of(payload.get("namespace")):
        name = f"{space}__{name}"
    arguments: object = payload.get("arguments", payload.get("input", payload.get("action")))
    if isinstance(arguments, str) and arguments.startswith("{"):
        try:
            arguments = msgspec.json.decode(arguments)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            arguments = {}
    return hooks.ToolCall(name, id_, arguments)


def _of_item(drafting: Drafting, item: Mapping[str, Any], id_: str) -> Events:
    """What an item tells whose call stands nowhere."""
    events: Events = ()
    if item.get("type") == "CommandExecution" and id_:
        ran = hooks.ToolCall(
            "exec_command",
            id_,
            {"command": item.get("command")},
            text_in(item, "aggregated_output"),
            whole_in(item, "exit_code"),
        )
        events = hooks.tool(drafting, ran, nowhere)
    elif item.get("type") == "FileChange" and id_ and item.get("status") == "completed":
        for path, change in fields_in(item, "changes").items():
            fields = change if isinstance(change, Mapping) else {}
            whole = text_in(fields, "content") if fields.get("type") == "add" else ""
            if whole:
                key = drafting.key("tool", id_, str(len(events)))
                events += drafting.edit(path, whole.rstrip("\n"), key)
            for one in changes_of_diff(text_in(fields, "unified_diff")):
                key = drafting.key("tool", id_, str(len(events)))
                events += drafting.edit(path, one.text, key, lines=one.lines)
    return events


def _in_diffs(changes: Mapping[str, Any]) -> Locate:
    """Where new text stood when it was written, by the diffs of the item."""

    def locate(path: str, text: str) -> tuple[int, int] | None:
        return lines_in_diff(text_in(fields_in(changes, path), "unified_diff"), text)

    return locate


def _written(content: object, kinds: object) -> object:
    """The parts of a message that the user wrote, where the rollout says which those are."""
    if not isinstance(content, list) or not isinstance(kinds, list):
        return content
    if len(kinds) != len(content):
        return content
    return [part for part, kind in zip(content, kinds, strict=True) if str(kind).startswith("user")]


def _role(payload: Mapping[str, Any]) -> str | None:
    source = fields_in(fields_in(payload, "source"), "subagent")
    spawned = fields_in(source, "thread_spawn")
    return label_of(payload.get("agent_role")) or label_of(spawned.get("agent_role"))
