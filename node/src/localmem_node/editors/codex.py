"""What Codex tells: 12 hook events in the shape of Claude Code's, and the few things that differ.

| event | what is kept |
| --- | --- |
| UserPromptSubmit | the prompt |
| PreToolUse | a patch inside a command, where it fits: no other event tells of it |
| PostToolUse | commands, patches, tools that failed |
| Stop, SubagentStop | the answer |

A hook is not told the exit code of a command; the transcript has it. Nor is PostCompact told the
summary, which is encrypted for the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

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
from localmem_node.editors.patches import Change, changes_of_patch, find_patch
from localmem_node.editors.texts import (
    bounded,
    digest_of,
    fields_in,
    label_of,
    path_of,
    text_in,
    whole_in,
)

STEPS: Final[Mapping[str, Step]] = {
    "SessionStart": "session start",
    "UserPromptSubmit": "prompt",
    "PostToolUse": "tool",
    "Stop": "answer",
    "SubagentStop": "subagent end",
    "PreCompact": "before compaction",
    "PostCompact": "after compaction",
    "SessionEnd": "session end",
}
INJECTING: Final = frozenset(
    {"SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "SubagentStart"}
)
"""Events whose answer may bring context; elsewhere a field too many makes the hook fail."""

SHELLS: Final = frozenset({"Bash", "shell", "shell_command", "exec_command", "local_shell"})
PATCHING: Final = "apply_patch"
_HEADER_CHARACTERS_MAX: Final = 400
_EXIT: Final = re.compile(r"^(?:Process exited with code|Exit code:) (-?\d{1,9})$", re.MULTILINE)
_APPLIED: Final = re.compile(r"\s*(?:cd\s+[\"']?([^\s\"';&]{1,1024})[\"']?\s*&&\s*)?apply_?patch\b")
"""How a command begins that Codex takes for a patch."""

_REFUSED: Final = re.compile(r"\s*(?:apply_patch )?(?:verification )?(?:failed|error)\b", re.I)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that ran. `arguments` are an object, or the patch itself; `code` is its exit code if
    that is known from elsewhere; `failed` says that it is known to have failed.
    """

    name: str
    id: str
    arguments: object = field(default_factory=dict)
    response: object = None
    code: int | None = None
    failed: bool = False


def read(payload: Mapping[str, Any], now_ms: int, locate: Locate) -> Told:
    """What one call of a hook told. Never raises, whatever the payload."""
    name = label_of(payload.get("hook_event_name")) or ""
    step: Step = STEPS.get(name, "other")
    drafting = Drafting(
        "codex", label_of(payload.get("session_id")), path_of(payload.get("cwd")), now_ms
    )
    prompt = text_in(payload, "prompt") if step == "prompt" else ""
    captured = _captured(name, payload, drafting, locate)
    if name == "PreToolUse" and captured:
        step = "tool"
    return Told(
        editor="codex",
        name=name,
        step=step,
        session=drafting.session,
        folder=drafting.folder,
        source=label_of(payload.get("source")) if step == "session start" else None,
        prompt=bounded(prompt) or None,
        captured=captured,
    )


def reply(name: str, text: str) -> dict[str, Any]:
    """The answer to the event called `name` that gives the model `text`; {} if it takes none."""
    if name not in INJECTING or not text:
        return {}
    return {"hookSpecificOutput": {"hookEventName": name, "additionalContext": text}}


def _captured(name: str, payload: Mapping[str, Any], drafting: Drafting, locate: Locate) -> Events:
    turn = label_of(payload.get("turn_id"))
    answer = text_in(payload, "last_assistant_message")
    if name == "UserPromptSubmit" and not payload.get("agent_id"):
        return prompt(drafting, turn, text_in(payload, "prompt"))
    if name in ("PreToolUse", "PostToolUse"):
        call = ToolCall(
            name=label_of(payload.get("tool_name")) or "",
            id=label_of(payload.get("tool_use_id")) or "",
            arguments=payload.get("tool_input"),
            response=payload.get("tool_response"),
        )
        if name == "PreToolUse":
            return _patch_to_come(drafting, call, locate)
        return tool(drafting, call, locate)
    if name == "Stop":
        return answered(drafting, turn, answer)
    if name == "SubagentStop":
        agent = label_of(payload.get("agent_type"))
        return subagent_answered(drafting, label_of(payload.get("agent_id")), agent, answer)
    return ()


def prompt(drafting: Drafting, turn: str | None, text: str) -> Events:
    """A prompt; a turn can have more than one, since the user may steer."""
    weak = drafting.key("prompt", digest_of(text))
    keys = (drafting.key("prompt", turn, digest_of(text)), weak) if turn else (weak,)
    return drafting.prompt(text, *keys)


def tool(drafting: Drafting, call: ToolCall, locate: Locate) -> Events:
    """The events of a tool call: an edit for each place of a patch, a command, or an error."""
    if is_own_tool(call.name):
        return ()
    arguments = call.arguments if isinstance(call.arguments, Mapping) else {}
    told, printed = result_of(call.response)
    code = told if call.code is None else call.code
    failed = call.failed or code not in (None, 0)
    if call.name == PATCHING or call.name in SHELLS:
        patch, folder = _patch_of(drafting, call)
        if patch and not failed and not _REFUSED.match(printed):
            edits = _edits(drafting, call, patch, folder, lambda path, new: locate(path, new.text))
            if edits:
                return edits
        key = _key(drafting, call, 0)
        if call.name == PATCHING:
            return _patch_failed(drafting, call, patch or "", printed)
        return drafting.command(command_of(arguments), printed, key, code=code, failed=failed)
    if failed or _is_error(call.response):
        return drafting.failure(call.name, printed, _key(drafting, call, 0))
    return ()


def command_of(arguments: Mapping[str, Any]) -> str:
    """The command line in the arguments of a shell tool, without the shell around it."""
    for name in ("command", "cmd", "input", "patch"):
        value = arguments.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            words = [word for word in value if isinstance(word, str)]
            wrapped = len(words) == 3 and words[1] in ("-c", "-lc", "-Command")
            return words[2] if wrapped else " ".join(words)
    return ""


def result_of(response: object) -> tuple[int | None, str]:
    """(exit code if it says one, what was printed) of a tool's result in any of its forms.

    Plain text; text after a header such as "Exit code: 1 … Output:"; or an object, also as JSON,
    with "output" and "metadata".
    """
    if isinstance(response, str) and response.startswith('{"'):
        try:
            inner = msgspec.json.decode(response)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            inner = None
        # What a command printed may be JSON as well; only a result has the exit code beside it.
        if isinstance(inner, Mapping) and fields_in(inner, "metadata"):
            response = inner
    if isinstance(response, Mapping):
        code = whole_in(fields_in(response, "metadata"), "exit_code")
        code = whole_in(response, "exit_code") if code is None else code
        inside, printed = _headed(joined(response))
        return (inside if code is None else code), printed
    return _headed(joined(response))


def _headed(text: str) -> tuple[int | None, str]:
    code = None
    for _ in range(2):  # one by the tool, one by the shell in it
        head, found, _rest = text[:_HEADER_CHARACTERS_MAX].partition("Output:\n")
        said = _EXIT.search(head)
        if not found or not (said or head.startswith(("Chunk ID:", "Wall time:"))):
            break
        code = int(said[1]) if said else code
        text = text[len(head) + len(found) :]
    return code, text


def _patch_of(drafting: Drafting, call: ToolCall) -> tuple[str | None, str | None]:
    """(the patch that a call applies, the folder that its paths are relative to)."""
    arguments = call.arguments if isinstance(call.arguments, Mapping) else {}
    told = call.arguments if isinstance(call.arguments, str) else command_of(arguments)
    folder = path_of(text_in(arguments, "workdir"), drafting.folder) or drafting.folder
    patch = find_patch(told)
    if call.name == PATCHING or patch is None:
        return patch, folder
    applied = _APPLIED.match(told[: told.find(patch)])
    if applied is None:
        return None, folder
    return patch, path_of(applied[1], folder) or folder


def _edits(
    drafting: Drafting,
    call: ToolCall,
    patch: str,
    folder: str | None,
    where: Callable[[str, Change], tuple[int, int] | None],
    *,
    only_where: bool = False,
) -> Events:
    """An edit for each change of a patch; with `only_where`, those only whose place is known."""
    events: Events = ()
    for index, one in enumerate(changes_of_patch(patch)):
        path = path_of(one.path, folder)
        if path is None:
            continue
        lines = one.change.lines if one.whole else where(path, one.change)
        if lines or not only_where:
            key = _key(drafting, call, index)
            events += drafting.edit(path, one.change.text, key, lines=lines)
    return events


def _patch_to_come(drafting: Drafting, call: ToolCall, locate: Locate) -> Events:
    """A patch inside a command, which Codex applies itself without telling the outcome.

    Taken where what it replaces stands in the file: there it will fit.
    """
    patch, folder = _patch_of(drafting, call) if call.name in SHELLS else (None, None)

    def fits(path: str, change: Change) -> tuple[int, int] | None:
        found = locate(path, change.before) if change.before.strip() else None
        first = found[0] + change.offset if found else 0
        return (first, first + change.text.count("\n")) if found else None

    if patch is None:
        return ()
    return _edits(drafting, call, patch, folder, fits, only_where=True)


def _patch_failed(drafting: Drafting, call: ToolCall, patch: str, printed: str) -> Events:
    if not call.failed and not _REFUSED.match(printed) and not _EXIT.search(printed):
        return ()  # it only took files away
    first = next(iter(changes_of_patch(patch)), None)
    path = first.path if first else None
    return drafting.failure(call.name, printed, _key(drafting, call, 0), path=path)


def _is_error(response: object) -> bool:
    if not isinstance(response, Mapping):
        return False
    return any(response.get(name) is True for name in ("isError", "is_error"))


def _key(drafting: Drafting, call: ToolCall, index: int) -> str:
    arguments = call.arguments if isinstance(call.arguments, Mapping) else {}
    return drafting.key("tool", call.id or digest_of(call.name, command_of(arguments)), str(index))
