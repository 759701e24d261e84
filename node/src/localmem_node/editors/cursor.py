"""What Cursor tells: 21 steps, of which these carry something to remember.

| step | what is kept |
| --- | --- |
| beforeSubmitPrompt | the prompt |
| afterFileEdit, afterTabFileEdit | an edit for each place |
| postToolUse, postToolUseFailure | commands with their exit state, tools that failed |
| afterShellExecution | commands, where postToolUse is not hooked |
| afterAgentResponse, subagentStop | the answer |

Cursor also runs the hooks of Claude Code, with its own payloads, so that one event may come by two
ways. Both give it the same key: by the conversation, the generation and what happened, since only
some steps have the id of the tool's call. An edit is told by afterFileEdit as what changed and by
postToolUse as the file; the first comes first, and leaves a name under which the second is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from localmem_node.editors.captured import Step, Told
from localmem_node.editors.drafting import Drafting, Events, Locate, is_own_tool, joined
from localmem_node.editors.patches import CHANGES_MAX
from localmem_node.editors.texts import bounded, digest_of, label_of, path_of, text_in, whole_in
from localmem_protocol.limits import LINE_MAX

STEPS: Final[Mapping[str, Step]] = {
    "sessionStart": "session start",
    "beforeSubmitPrompt": "prompt",
    "postToolUse": "tool",
    "postToolUseFailure": "tool",
    "afterShellExecution": "tool",
    "afterMCPExecution": "tool",
    "afterFileEdit": "tool",
    "afterTabFileEdit": "tool",
    "afterAgentResponse": "answer",
    "stop": "answer",
    "subagentStop": "subagent end",
    "preCompact": "before compaction",
    "sessionEnd": "session end",
}
CLAUDE_NAMES: Final[Mapping[str, str]] = {
    "SessionStart": "sessionStart",
    "UserPromptSubmit": "beforeSubmitPrompt",
    "PreToolUse": "preToolUse",
    "PostToolUse": "postToolUse",
    "PostToolUseFailure": "postToolUseFailure",
    "Stop": "stop",
    "SubagentStop": "subagentStop",
    "PreCompact": "preCompact",
    "SessionEnd": "sessionEnd",
}
"""Cursor's steps under the names that hooks of Claude Code have for them."""

INJECTING: Final = frozenset(
    {"sessionStart", "beforeSubmitPrompt", "preToolUse", "postToolUse", "postToolUseFailure"}
)
"""Steps whose answer may bring context."""

SHELLS: Final = frozenset({"Shell", "Bash", "run_terminal_cmd"})
_SAID: Final = re.compile(r"Command failed with exit code (-?[0-9]{1,9})")
EDITS: Final = frozenset(
    {"Write", "Edit", "MultiEdit", "StrReplace", "edit_file", "search_replace"}
)


def is_cursor(payload: Mapping[str, Any]) -> bool:
    """Whether Cursor sent this, whichever editor's hook it ran."""
    return "cursor_version" in payload or "conversation_id" in payload


def read(payload: Mapping[str, Any], now_ms: int, locate: Locate) -> Told:
    """What one call of a hook told. Never raises, whatever the payload."""
    name = label_of(payload.get("hook_event_name")) or ""
    kind = CLAUDE_NAMES.get(name, name)
    step: Step = STEPS.get(kind, "other")
    session = text_in(payload, "conversation_id", "session_id")
    drafting = Drafting("cursor", label_of(session), _folder(payload), now_ms)
    prompt = text_in(payload, "prompt") if step == "prompt" else ""
    return Told(
        editor="cursor",
        name=name,
        step=step,
        session=drafting.session,
        folder=drafting.folder,
        source=label_of(payload.get("source")) if step == "session start" else None,
        prompt=bounded(prompt) or None,
        captured=_captured(kind, payload, drafting, locate),
    )


def reply(name: str, text: str) -> dict[str, Any]:
    """The answer to the step called `name` that gives the model `text`; {} if it takes none."""
    if CLAUDE_NAMES.get(name, name) not in INJECTING or not text:
        return {}
    if name in CLAUDE_NAMES:
        return {"hookSpecificOutput": {"hookEventName": name, "additionalContext": text}}
    return {"additional_context": text}


def _captured(kind: str, payload: Mapping[str, Any], drafting: Drafting, locate: Locate) -> Events:
    turn = label_of(payload.get("generation_id"))
    if kind == "beforeSubmitPrompt":
        return prompt(drafting, turn, text_in(payload, "prompt"))
    if kind == "afterAgentResponse":
        return answered(drafting, turn, text_in(payload, "text"))
    if kind in ("afterFileEdit", "afterTabFileEdit"):
        return _file_edits(drafting, turn, payload, locate)
    if kind == "afterShellExecution":
        output = text_in(payload, "output")
        return command(drafting, turn, text_in(payload, "command"), output)
    if kind in ("postToolUse", "postToolUseFailure"):
        return _tool(drafting, turn, payload, locate, failed=kind == "postToolUseFailure")
    if kind == "subagentStop":
        return _subagent(drafting, payload)
    return ()


def prompt(drafting: Drafting, turn: str | None, text: str) -> Events:
    """What the user wrote."""
    return drafting.prompt(text, *_keys(drafting, "prompt", turn, digest_of(text)))


def answered(drafting: Drafting, turn: str | None, text: str) -> Events:
    """What the model said."""
    return drafting.answer(text, *_keys(drafting, "answer", turn, digest_of(text)))


def command(
    drafting: Drafting,
    turn: str | None,
    line: str,
    output: str,
    *,
    code: int | None = None,
    failed: bool = False,
) -> Events:
    """A command; who knows the output as well tells two runs of it apart."""
    weak = drafting.key("command", digest_of(line))
    keys = (drafting.key("command", turn, digest_of(line, output)), weak) if turn else (weak,)
    return drafting.command(line, output, *keys, code=code, failed=failed)


def edit(
    drafting: Drafting,
    turn: str | None,
    path: str,
    text: str,
    lines: tuple[int, int] | None = None,
) -> Events:
    """New text in a file, by its absolute path."""
    keys = _keys(drafting, "edit", turn, digest_of(path, text))
    if turn:
        keys += (_edited(drafting, turn, path),)
    return drafting.edit(path, text, *keys, lines=lines)


def new_text(arguments: Mapping[str, Any]) -> str:
    """What an edit tool was told to write."""
    return text_in(arguments, "content", "contents", "new_string", "code_edit", "fileText")


def _tool(
    drafting: Drafting,
    turn: str | None,
    payload: Mapping[str, Any],
    locate: Locate,
    *,
    failed: bool,
) -> Events:
    name = label_of(payload.get("tool_name")) or ""
    arguments = _object(payload.get("tool_input"))
    if is_own_tool(name) or is_own_tool(text_in(payload, "server", "command")):
        return ()
    error = text_in(payload, "error_message")
    if name in SHELLS:
        code, printed = _failure(error) if failed else _result(payload.get("tool_output"))
        line = text_in(arguments, "command")
        return command(drafting, turn, line, printed, code=code, failed=failed)
    path = path_of(text_in(arguments, "file_path", "path", "target_file"), drafting.folder)
    if failed:
        keys = _keys(drafting, "error", turn, digest_of(name, path or "", error))
        return drafting.failure(name, error, *keys, path=path)
    if name in EDITS and path:
        return _written(drafting, turn, path, new_text(arguments), locate)
    return ()


def _result(output: object) -> tuple[int | None, str]:
    """(exit code, what was printed) of a command that ended."""
    result = _object(output)
    if not result:
        return None, output if isinstance(output, str) else joined(output)
    return whole_in(result, "exitCode"), text_in(result, "output") or joined(result)


def _failure(error: str) -> tuple[int | None, str]:
    """The same of one that failed; where it printed nothing, Cursor says that it failed."""
    if said := _SAID.fullmatch(error.strip()[:100]):
        return int(said[1]), ""
    return None, error


def _written(drafting: Drafting, turn: str | None, path: str, text: str, locate: Locate) -> Events:
    """An edit as postToolUse tells it: known if afterFileEdit told one in this file this turn."""
    keys = _keys(drafting, "edit", turn, digest_of(path, text))
    events = drafting.edit(path, text, *keys, lines=locate(path, text))
    unless = (_edited(drafting, turn, path),) if turn else ()
    return tuple(replace(one, unless=unless) for one in events)


def _file_edits(
    drafting: Drafting, turn: str | None, payload: Mapping[str, Any], locate: Locate
) -> Events:
    path = path_of(payload.get("file_path"), drafting.folder)
    edits = payload.get("edits")
    events: Events = ()
    for one in edits[:CHANGES_MAX] if isinstance(edits, list) else []:
        if path and isinstance(one, Mapping):
            text = text_in(one, "new_line", "new_string")
            lines = _range(one.get("range")) or locate(path, text)
            events += edit(drafting, turn, path, text, lines)
    return events


def _subagent(drafting: Drafting, payload: Mapping[str, Any]) -> Events:
    id_, agent = label_of(payload.get("subagent_id")), label_of(payload.get("subagent_type"))
    error, summary = text_in(payload, "error_message"), text_in(payload, "summary")
    if error and payload.get("status") in ("error", "failed"):
        keys = _keys(drafting, "subagent", id_, digest_of(error))
        return drafting.failure(agent or "subagent", error, *keys)
    keys = _keys(drafting, "subagent", id_, digest_of(summary))
    return drafting.answer(summary, *keys, agent=agent or "subagent")


def _keys(drafting: Drafting, kind: str, turn: str | None, digest: str) -> tuple[str, ...]:
    weak = drafting.key(kind, digest)
    return (drafting.key(kind, turn, digest), weak) if turn else (weak,)


def _edited(drafting: Drafting, turn: str, path: str) -> str:
    return drafting.key("edited", turn, digest_of(path))


def _object(value: object) -> Mapping[str, Any]:
    """An object, also one that is written as JSON in a string, as some steps do."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def _range(value: object) -> tuple[int, int] | None:
    lines = value if isinstance(value, Mapping) else {}
    first, last = whole_in(lines, "start_line_number"), whole_in(lines, "end_line_number")
    known = first is not None and last is not None and 1 <= first <= last <= LINE_MAX
    return (first or 0, last or 0) if known else None


def _folder(payload: Mapping[str, Any]) -> str | None:
    roots = payload.get("workspace_roots")
    first = next(iter(roots), None) if isinstance(roots, list) else None
    return path_of(first) or path_of(payload.get("cwd"))
