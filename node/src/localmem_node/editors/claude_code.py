"""What Claude Code tells: 33 hook events, of which these carry something to remember.

| event | what is kept |
| --- | --- |
| UserPromptSubmit, UserPromptExpansion | the prompt, once |
| PostToolUse | edits, commands, plans and what the user decided |
| PostToolUseFailure | commands that failed, and tools that did |
| Stop, SubagentStop | the answer |
| PostCompact | the summary that stands for what was said before |

PostToolBatch repeats what the tools' own events said, and the others say nothing that was not said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from localmem_node.editors.captured import Step, Told
from localmem_node.editors.drafting import (
    Drafting,
    Events,
    Locate,
    answered,
    is_own_tool,
    joined,
    subagent_answered,
)
from localmem_node.editors.patches import CHANGES_MAX, Change, changes_of_hunks
from localmem_node.editors.texts import (
    bounded,
    digest_of,
    fields_in,
    label_of,
    message_text,
    path_of,
    text_in,
)

STEPS: Final[Mapping[str, Step]] = {
    "SessionStart": "session start",
    "UserPromptSubmit": "prompt",
    "UserPromptExpansion": "prompt",
    "PostToolUse": "tool",
    "PostToolUseFailure": "tool",
    "Stop": "answer",
    "SubagentStop": "subagent end",
    "PreCompact": "before compaction",
    "PostCompact": "after compaction",
    "SessionEnd": "session end",
}
INJECTING: Final = frozenset(
    {
        "SessionStart", "Setup", "UserPromptSubmit", "UserPromptExpansion", "PreToolUse",
        "PostToolUse", "PostToolUseFailure", "PostToolBatch", "Stop", "SubagentStart",
        "SubagentStop", "Notification", "PostModelSwitch",
    }
)  # fmt: skip
"""Events whose answer may bring context."""

SHELLS: Final = frozenset({"Bash", "PowerShell"})
EDITS: Final = frozenset({"Edit", "Write", "MultiEdit", "NotebookEdit"})
_EXIT: Final = re.compile(r"(?:Error: )?Exit code (\d{1,9})(?:\n|$)")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that ran: what it was told, and what it returned or, if it failed, said."""

    name: str
    id: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    response: object = None
    error: str | None = None


def read(payload: Mapping[str, Any], now_ms: int, locate: Locate) -> Told:
    """What one call of a hook told. Never raises, whatever the payload."""
    name = label_of(payload.get("hook_event_name")) or ""
    step: Step = STEPS.get(name, "other")
    drafting = Drafting(
        "claude-code", label_of(payload.get("session_id")), path_of(payload.get("cwd")), now_ms
    )
    asked = _asked(name, payload)
    return Told(
        editor="claude-code",
        name=name,
        step=step,
        session=drafting.session,
        folder=drafting.folder,
        source=label_of(payload.get("source")) if step == "session start" else None,
        prompt=bounded(asked) or None,
        captured=_captured(name, payload, drafting, locate),
    )


def reply(name: str, text: str) -> dict[str, Any]:
    """The answer to the event called `name` that gives the model `text`; {} if it takes none."""
    if name not in INJECTING or not text:
        return {}
    return {"hookSpecificOutput": {"hookEventName": name, "additionalContext": text}}


def _captured(name: str, payload: Mapping[str, Any], drafting: Drafting, locate: Locate) -> Events:
    turn = label_of(payload.get("prompt_id"))
    answer = text_in(payload, "last_assistant_message")
    if STEPS.get(name) == "prompt":
        return prompt(drafting, turn, _asked(name, payload))
    if name in ("PostToolUse", "PostToolUseFailure"):
        return tool(drafting, _call(name, payload), locate)
    if name == "Stop":
        return answered(drafting, turn, answer)
    if name == "SubagentStop" and payload.get("agent_type") != "":  # one without a type summarises
        agent = label_of(payload.get("agent_type"))
        return subagent_answered(drafting, label_of(payload.get("agent_id")), agent, answer)
    if name == "PostCompact":
        return compacted(drafting, turn, text_in(payload, "compact_summary"))
    return ()


def prompt(drafting: Drafting, turn: str | None, text: str) -> Events:
    """The prompt of a turn; known by the turn's id, and by its text to who lacks that."""
    weak = drafting.key("prompt", digest_of(text))
    keys = (drafting.key("prompt", turn), weak) if turn else (weak,)
    return drafting.prompt(text, *keys)


def compacted(drafting: Drafting, turn: str | None, text: str) -> Events:
    """The summary that a compaction left."""
    weak = drafting.key("summary", digest_of(text))
    keys = (drafting.key("summary", turn), weak) if turn else (weak,)
    return drafting.note(text, *keys)


def tool(drafting: Drafting, call: ToolCall, locate: Locate) -> Events:
    """The events of a tool call: an edit for each place, a command, a decision or an error."""
    if is_own_tool(call.name):
        return ()
    command = text_in(call.arguments, "command")
    if call.error is not None:
        return _failed(drafting, call, command)
    if call.name in SHELLS:
        return drafting.command(command, _printed(call.response), _key(drafting, call, 0))
    if call.name in EDITS:
        return _edits(drafting, call, locate)
    if call.name == "ExitPlanMode":
        response = call.response if isinstance(call.response, Mapping) else {}
        plan = text_in(response, "plan") or text_in(call.arguments, "plan")
        return drafting.note(plan, _key(drafting, call, 0))
    if call.name == "AskUserQuestion":
        return drafting.note(_decisions(call), _key(drafting, call, 0))
    return ()


def _call(name: str, payload: Mapping[str, Any]) -> ToolCall:
    server = text_in(fields_in(payload, "mcp_server"), "name")
    tool_name = label_of(payload.get("tool_name")) or ""
    if server == "localmem":
        tool_name = f"mcp__localmem__{tool_name}"
    error = None
    if name == "PostToolUseFailure":
        error = text_in(payload, "error") or message_text(payload.get("error"))
    return ToolCall(
        name=tool_name,
        id=label_of(payload.get("tool_use_id")) or "",
        arguments=fields_in(payload, "tool_input"),
        response=payload.get("tool_response"),
        error=error,
    )


def _failed(drafting: Drafting, call: ToolCall, command: str) -> Events:
    error, key = call.error or "", _key(drafting, call, 0)
    if not command:
        path = text_in(call.arguments, "file_path", "notebook_path", "path")
        return drafting.failure(call.name, error, key, path=path or None)
    code = None
    if found := _EXIT.match(error):
        code, error = int(found[1]), error[found.end() :]
    return drafting.command(command, error, key, code=code, failed=True)


def _edits(drafting: Drafting, call: ToolCall, locate: Locate) -> Events:
    response = call.response if isinstance(call.response, Mapping) else {}
    path = path_of(
        text_in(response, "filePath", "notebook_path")
        or text_in(call.arguments, "file_path", "notebook_path"),
        drafting.folder,
    )
    if path is None:
        return ()
    changes = changes_of_hunks(response.get("structuredPatch")) or [
        Change(text, None if call.name in ("Write", "NotebookEdit") else locate(path, text))
        for text in _new_texts(call.arguments)
    ]
    events: Events = ()
    for index, change in enumerate(changes[:CHANGES_MAX]):
        key = _key(drafting, call, index)
        events += drafting.edit(path, change.text, key, lines=change.lines)
    return events


def _new_texts(arguments: Mapping[str, Any]) -> list[str]:
    edits = arguments.get("edits")
    if isinstance(edits, list):
        texts = [text_in(edit, "new_string") for edit in edits if isinstance(edit, Mapping)]
        return [text for text in texts if text][:CHANGES_MAX]
    text = text_in(arguments, "content", "new_string", "new_source")
    return [text] if text else []


def _printed(response: object) -> str:
    if isinstance(response, Mapping) and response.get("isImage") is True:
        return "(an image)"
    return joined(response)


def _decisions(call: ToolCall) -> str:
    """Questions that the model asked, with what the user chose."""
    for source in (call.response, call.arguments):
        answers = source.get("answers") if isinstance(source, Mapping) else None
        if isinstance(answers, Mapping):
            said = [f"{question}\n→ {answer}" for question, answer in answers.items()]
            return "\n".join(said)
    return ""


def _key(drafting: Drafting, call: ToolCall, index: int) -> str:
    if call.id:
        return drafting.key("tool", call.id, str(index))
    told = "\0".join(f"{name}={value}" for name, value in call.arguments.items())
    return drafting.key("tool", digest_of(call.name, told), str(index))


def _asked(name: str, payload: Mapping[str, Any]) -> str:
    """What the user wrote, a slash command as it was typed; "" where a model wrote to a subagent."""
    if STEPS.get(name) != "prompt" or payload.get("agent_id"):
        return ""
    command = text_in(payload, "command_name").strip() if name == "UserPromptExpansion" else ""
    if not command:
        return text_in(payload, "prompt")
    slash = "" if command.startswith("/") else "/"
    return f"{slash}{command} {text_in(payload, 'command_args')}".strip()
