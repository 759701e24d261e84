"""Transcripts of Claude Code: projects/<folder>/<session>.jsonl, and those of subagents below it.

One record a line. What hooks were told stands in it under the same ids: a tool's call and its result
by `tool_use.id`, prompts by `promptId`. Left out are what the user did not write (`isMeta`, wrapped
slash commands), attachments, among them our own context, calls that were refused before they ran, of
which no hook is told either, and what a fork copied from another session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from localmem_node.editors import claude_code as hooks
from localmem_node.editors.drafting import (
    Drafting,
    Events,
    answered,
    nowhere,
    subagent_answered,
)
from localmem_node.editors.texts import (
    fields_in,
    label_of,
    message_text,
    path_of,
    text_in,
)
from localmem_node.transcripts.found import PENDING_MAX, Found, moment_of, spoken

_REFUSED: Final = (
    "<tool_use_error>",
    "The user doesn't want to",
    "[Request interrupted",
    "User rejected",
)
_SUMMARY: Final = "The summary below covers the earlier portion of the conversation.\n\n"
_AFTER_SUMMARY: Final = (
    "\n\nIf you need specific details from before compaction",
    "\n\nRecent messages are preserved verbatim.",
    "\nPlease continue the conversation from where we left",
    "\nContinue the conversation from where it left off",
)


@dataclass(frozen=True, slots=True)
class _Call:
    """A tool's call that waits for its result."""

    offset: int
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Said:
    """What the model said last; its answer if nothing follows in the turn."""

    offset: int
    text: str
    drafting: Drafting
    turn: str | None


class ClaudeTranscript:
    """Implements `Reader`. `agent` is the type of the subagent whose transcript it is, if known."""

    def __init__(self, modified_ms: int, agent: str | None = None) -> None:
        self._time_ms, self._agent = modified_ms, agent
        self._turn: str | None = None
        self._calls: dict[str, _Call] = {}
        self._said: _Said | None = None
        self._subagent: str | None = None

    def head(self, fields: Mapping[str, Any]) -> None:
        """Nothing: every record says where it belongs."""

    def needed(self) -> int | None:
        """Where the oldest call without a result is, or what may turn out to be an answer."""
        offsets = [call.offset for call in self._calls.values()]
        return min([*offsets, self._said.offset] if self._said else offsets, default=None)

    def feed(self, fields: Mapping[str, Any], offset: int) -> Sequence[Found]:
        """A record of the transcript."""
        copied = text_in(fields_in(fields, "forkedFrom"), "sessionId")
        if copied and copied != fields.get("sessionId"):
            return ()
        drafting = self._drafting(fields)
        kind = fields.get("type")
        if kind == "assistant":
            return self._assistant(fields, offset, drafting)
        if kind == "user":
            return self._user(fields, drafting)
        if kind == "attachment":
            return self._queued(fields_in(fields, "attachment"), drafting)
        return ()

    def finish(self) -> Sequence[Found]:
        """The last answer."""
        return self._answered()

    def _drafting(self, fields: Mapping[str, Any]) -> Drafting:
        moment = moment_of(fields.get("timestamp"))
        self._time_ms = self._time_ms if moment is None else moment
        session = label_of(fields.get("sessionId"))
        return Drafting("claude-code", session, path_of(fields.get("cwd")), self._time_ms)

    def _assistant(
        self, fields: Mapping[str, Any], offset: int, drafting: Drafting
    ) -> Sequence[Found]:
        if fields.get("isApiErrorMessage") is True or fields.get("isMeta") is True:
            return ()
        if fields.get("isSidechain") is True:
            self._subagent = label_of(fields.get("agentId")) or self._subagent
            self._agent = self._agent or label_of(fields.get("attributionAgent"))
        content = fields_in(fields, "message").get("content")
        for block in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            if not isinstance(block, Mapping):
                continue
            if block.get("type") == "text" and (text := text_in(block, "text")):
                self._said = _Said(offset, text, drafting, self._turn)
            elif block.get("type") == "tool_use" and (id_ := label_of(block.get("id"))):
                self._said = None
                while len(self._calls) >= PENDING_MAX:
                    del self._calls[next(iter(self._calls))]
                name = label_of(block.get("name")) or ""
                self._calls[id_] = _Call(offset, name, fields_in(block, "input"))
        return ()

    def _user(self, fields: Mapping[str, Any], drafting: Drafting) -> Sequence[Found]:
        self._turn = label_of(fields.get("promptId")) or self._turn
        content = fields_in(fields, "message").get("content")
        results = [
            block
            for block in (content if isinstance(content, list) else [])
            if isinstance(block, Mapping) and block.get("type") == "tool_result"
        ]
        if results:
            told = fields.get("toolUseResult") if len(results) == 1 else None
            events: list[Found] = []
            for block in results:
                events += self._result(block, told, drafting)
            return events
        if fields.get("isMeta") is True:
            return ()
        return self._prompt(fields, message_text(content), drafting)

    def _prompt(self, fields: Mapping[str, Any], text: str, drafting: Drafting) -> Sequence[Found]:
        found = list(self._answered())
        self._calls.clear()
        if fields.get("isCompactSummary") is True:
            turn = label_of(fields.get("promptId"))
            events = hooks.compacted(drafting, turn, _summary(text))
        elif fields.get("isSidechain") is True:
            events = ()  # a model wrote it
        else:
            events = hooks.prompt(drafting, label_of(fields.get("promptId")), spoken(text))
        return found + _found(events, drafting)

    def _queued(self, attachment: Mapping[str, Any], drafting: Drafting) -> Sequence[Found]:
        """What the user wrote while the model worked."""
        mode = attachment.get("commandMode", "prompt")
        if attachment.get("type") != "queued_command" or mode != "prompt":
            return ()
        text = spoken(message_text(attachment.get("prompt")))
        return _found(hooks.prompt(drafting, None, text), drafting)

    def _result(
        self, block: Mapping[str, Any], told: object, drafting: Drafting
    ) -> Sequence[Found]:
        id_ = label_of(block.get("tool_use_id")) or ""
        call = self._calls.pop(id_, None)
        if call is None:
            return ()
        printed = message_text(block.get("content"))
        error = printed if block.get("is_error") is True else None
        if error is not None and error.startswith(_REFUSED):
            return ()
        response = told if isinstance(told, Mapping) else printed
        ran = hooks.ToolCall(call.name, id_, call.arguments, response, error)
        return _found(hooks.tool(drafting, ran, nowhere), drafting)

    def _answered(self) -> Sequence[Found]:
        said, self._said = self._said, None
        if said is None:
            return ()
        if self._subagent is not None:
            events = subagent_answered(said.drafting, self._subagent, self._agent, said.text)
        else:
            events = answered(said.drafting, said.turn, said.text)
        return _found(events, said.drafting)


def _found(events: Events, drafting: Drafting) -> list[Found]:
    return [Found(one, drafting.folder) for one in events]


def _summary(text: str) -> str:
    """The summary itself, without what introduces it to the model."""
    _, found, summary = text.partition(_SUMMARY)
    summary = summary if found else text
    for mark in _AFTER_SUMMARY:
        summary = summary.partition(mark)[0]
    return summary
