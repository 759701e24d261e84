"""What the editors' hooks tell, from payloads that they sent."""

from __future__ import annotations

from typing import Any

import pytest

from localmem_node.editors.captured import Editor, Told
from localmem_node.editors.drafting import nowhere
from localmem_node.editors.reading import read_hook, reply_to
from localmem_protocol.events import Draft
from support.editor_fixtures import payload, payloads

NOW = 1_795_645_000_000
NO_FOLDER = "ls: cannot access '/nonexistent-dir': No such file or directory"
NO_FILE = "File does not exist. Note: your current working directory is /home/dev/shop."


def told(editor: Editor, one: dict[str, Any]) -> Told:
    return read_hook(editor, one, NOW, nowhere)


def session(editor: Editor) -> list[tuple[str, str, str | None, tuple[int, int] | None]]:
    """Everything that a session's hooks told, once."""
    seen: set[str] = set()
    kept: list[tuple[str, str, str | None, tuple[int, int] | None]] = []
    for one in payloads(editor):
        for captured in told(editor, one).captured:
            if seen.isdisjoint({captured.key, *captured.unless}):
                seen |= {captured.key, *captured.also}
                draft = captured.draft
                kept.append((draft.kind, draft.snippet, draft.file_path, draft.selection_range))
    return kept


def only(editor: Editor, one: dict[str, Any]) -> Draft:
    (captured,) = told(editor, one).captured
    return captured.draft


def test_a_session_of_claude_code() -> None:
    kept = session("claude-code")
    numbers = kept.pop(1)
    assert numbers[0] == "command"
    assert numbers[1].startswith("$ seq 1 900; echo err >&2\n1\n2\n")
    assert numbers[1].endswith("899\n900\nerr")
    assert 2_000 < len(numbers[1]) < 2_100
    subagents = kept.pop(7)
    assert subagents[1] == numbers[1]
    price = "/home/dev/shop/price.py"
    both = "    rate = 0.19\n    return sum(prices)\n\n\ndef tax(prices):\n    rate = 0.19"
    assert kept == [
        ("prompt", "Set the tax to 19 % & show me", None, None),
        ("error", f"$ ls /nonexistent-dir\nexit 2\n{NO_FOLDER}", None, None),
        ("edit", "def hello():\n    return 1\n", "/home/dev/shop/hello.py", (1, 2)),
        ("edit", "    return 2", "/home/dev/shop/hello.py", (2, 2)),
        ("edit", both, price, (2, 7)),
        ("error", f"Read\n{NO_FILE}", "/home/dev/shop/missing.py", None),
        ("edit", "def tax(prices, rate=0.19):\n    return rate * total(prices)", price, (5, 6)),
        ("answer", "[general-purpose] Looked around; nothing odd.", None, None),
        ("answer", "Done: the tax is 19 % now, see price.py (20).", None, None),
        ("prompt", "/greet bob", None, None),
        ("answer", "Done: the tax is 19 % now, see price.py (23).", None, None),
        ("note", "Done: the tax is 19 % now, see price.py (23).", None, None),
    ]  # fmt: skip


def test_a_session_of_codex() -> None:
    assert session("codex") == [
        ("prompt", "Set the tax to 19 %", None, None),
        ("command", "$ echo shop-is-open; echo err >&2\nshop-is-open\nerr", None, None),
        ("command", f"$ ls /nonexistent-dir\n{NO_FOLDER}", None, None),
        ("edit", "def hello():\n    return 1", "/home/dev/shop/hello.py", (1, 2)),
        ("edit", "    return 2", "/home/dev/shop/hello.py", (1, 1)),
        ("answer", "Done, and tested.", None, None),
    ]  # fmt: skip


def test_codex_tells_of_a_patch_inside_a_command_only_before_it_applies_it() -> None:
    one = next(
        one
        for one in payloads("codex")
        if one["hook_event_name"] == "PreToolUse" and one["tool_name"] == "Bash"
        and "Begin Patch" in one["tool_input"]["command"]
    )  # fmt: skip
    asked: list[tuple[str, str]] = []

    def at_six(path: str, text: str) -> tuple[int, int]:
        asked.append((path, text))
        return (6, 8)

    what = read_hook("codex", one, NOW, at_six)
    (captured,) = what.captured
    assert what.step == "tool"
    assert asked == [("/home/dev/shop/price.py", "def tax(prices):\n    rate = 1\n    return 0")]
    assert captured.draft.snippet == "    rate = 0.19"
    assert captured.draft.file_path == "/home/dev/shop/price.py"
    assert captured.draft.selection_range == (7, 7)
    unfit = read_hook("codex", one, NOW, nowhere)
    assert (unfit.step, unfit.captured) == ("other", ())
    moved = {**one, "tool_input": {"command": "cd sub && " + one["tool_input"]["command"]}}
    assert only_path(read_hook("codex", moved, NOW, at_six)) == "/home/dev/shop/sub/price.py"


def only_path(what: Told) -> str | None:
    (captured,) = what.captured
    return captured.draft.file_path


def test_a_session_of_cursor() -> None:
    price = "/home/dev/shop/price.py"
    assert session("cursor") == [
        ("prompt", "Set the tax to 19 %", None, None),
        ("edit", "def tax(prices, rate=0.19):\n    return rate * total(prices)", price, (1, 2)),
        ("command", "$ python -m pytest -q\n1 failed, 3 passed in 0.12s", None, None),
        ("command", "$ python -m pytest -q\n4 passed in 0.11s", None, None),
        ("error", f"$ ls /nonexistent-dir\n{NO_FOLDER}", None, None),
        ("error", "$ false\nexit 1", None, None),
        ("error", "Read\nFile not found: /home/dev/shop/missing.py",
         "/home/dev/shop/missing.py", None),
        ("answer", "[explore] Only checkout.py calls tax.", None, None),
        ("answer", "The tax is 19 % now.", None, None),
        ("edit", "def tax(prices, rate=0.19):  # VAT", price, (5, 5)),
    ]  # fmt: skip


def test_without_the_shell_step_cursors_exit_state_is_known() -> None:
    failing = payload("cursor", "postToolUse", tool_use_id="tool_s1")
    assert only("cursor", failing).kind == "error"
    assert only("cursor", failing).snippet.splitlines()[1] == "exit 1"


def test_cursor_is_known_by_its_payload_when_it_replays_hooks_of_claude_code() -> None:
    own = told("cursor", payload("cursor", "postToolUse", tool_use_id="tool_w1"))
    replayed = told("claude-code", payload("cursor", "postToolUse", tool_use_id="tool_w1"))
    assert replayed == own
    assert replayed.editor == "cursor"
    edited = told("cursor", payload("cursor", "afterFileEdit")).captured[0]
    (name,) = replayed.captured[0].unless
    assert name in edited.also, "one edit, told twice"
    named = {**payload("cursor", "beforeSubmitPrompt"), "hook_event_name": "UserPromptSubmit"}
    assert (
        told("claude-code", named).captured
        == told("cursor", payload("cursor", "beforeSubmitPrompt")).captured
    )
    assert reply_to(told("claude-code", named), "x") == {
        "hookSpecificOutput": {"hookEventName": "UserPromptSubmit", "additionalContext": "x"}
    }


@pytest.mark.parametrize(
    ("editor", "name", "step"),
    [
        ("claude-code", "SessionStart", "session start"),
        ("claude-code", "UserPromptSubmit", "prompt"),
        ("claude-code", "PostToolUse", "tool"),
        ("claude-code", "PostToolUseFailure", "tool"),
        ("claude-code", "PostToolBatch", "other"),
        ("claude-code", "SubagentStart", "other"),
        ("claude-code", "SubagentStop", "subagent end"),
        ("claude-code", "Stop", "answer"),
        ("claude-code", "PreCompact", "before compaction"),
        ("claude-code", "PostCompact", "after compaction"),
        ("claude-code", "SessionEnd", "session end"),
        ("codex", "SessionStart", "session start"),
        ("codex", "UserPromptSubmit", "prompt"),
        ("codex", "PostToolUse", "tool"),
        ("codex", "Stop", "answer"),
        ("codex", "SessionEnd", "session end"),
        ("cursor", "sessionStart", "session start"),
        ("cursor", "beforeSubmitPrompt", "prompt"),
        ("cursor", "afterFileEdit", "tool"),
        ("cursor", "preCompact", "before compaction"),
        ("cursor", "stop", "answer"),
        ("cursor", "sessionEnd", "session end"),
        ("cursor", "beforeReadFile", "other"),
        ("cursor", "workspaceOpen", "other"),
    ],
)
def test_every_step_of_a_session_has_its_name(editor: Editor, name: str, step: str) -> None:
    what = told(editor, payload(editor, name))
    assert (what.editor, what.name, what.step) == (editor, name, step)
    assert what.folder == "/home/dev/shop"
    assert (what.session is None) == (name == "workspaceOpen")


def test_how_a_session_began_and_what_was_asked_is_told() -> None:
    sources = [told("claude-code", one).source for one in payloads("claude-code")]
    assert [source for source in sources if source] == ["startup", "resume", "resume", "compact"]
    assert told("codex", payload("codex", "UserPromptSubmit")).prompt == "Set the tax to 19 %"
    assert told("cursor", payload("cursor", "beforeSubmitPrompt")).prompt == "Set the tax to 19 %"


def test_a_slash_command_is_told_before_it_is_expanded_and_when_it_is_sent_but_is_one_prompt() -> (
    None
):
    expanded = told("claude-code", payload("claude-code", "UserPromptExpansion"))
    sent = told("claude-code", payload("claude-code", "UserPromptSubmit", prompt="/greet bob"))
    assert expanded.prompt == sent.prompt == "/greet bob"
    assert expanded.captured == sent.captured != ()
    subagent = {**payload("claude-code", "UserPromptSubmit"), "agent_id": "a1"}
    assert told("claude-code", subagent).captured == (), "a model wrote that"


def test_context_is_given_in_the_form_that_each_editor_takes() -> None:
    def given(editor: Editor, name: str) -> dict[str, Any]:
        return reply_to(told(editor, payload(editor, name)), "before")

    claude = {"hookEventName": "SessionStart", "additionalContext": "before"}
    assert given("claude-code", "SessionStart") == {"hookSpecificOutput": claude}
    assert given("codex", "UserPromptSubmit") == {
        "hookSpecificOutput": {"hookEventName": "UserPromptSubmit", "additionalContext": "before"}
    }
    assert given("cursor", "sessionStart") == {"additional_context": "before"}
    for editor, name in [("claude-code", "SessionEnd"), ("codex", "Stop"), ("cursor", "stop")]:
        assert given(editor, name) == {}  # type: ignore[arg-type]
    assert reply_to(told("codex", payload("codex", "SessionStart")), "") == {}


def test_what_our_own_tools_answer_is_not_remembered_again() -> None:
    base = payload("claude-code", "PostToolUse")
    for name in ("mcp__localmem__query_recent", "mcp__plugin_localmem_localmem__query_recent"):
        assert told("claude-code", {**base, "tool_name": name}).captured == ()
        failed = {**payload("claude-code", "PostToolUseFailure"), "tool_name": name}
        assert told("claude-code", failed).captured == ()
    other = {**base, "tool_name": "mcp__jira__get"}
    assert told("claude-code", other).captured == (), "others' successes are left out as well"
    failed = {**payload("claude-code", "PostToolUseFailure"), "tool_name": "mcp__jira__get"}
    assert told("claude-code", {**failed, "tool_input": {}}).captured != ()
    codex = {**payload("codex", "PostToolUse"), "tool_name": "mcp__localmem__query_recent"}
    assert told("codex", {**codex, "tool_response": {"isError": True}}).captured == ()


def test_plans_and_decisions_are_notes() -> None:
    base = payload("claude-code", "PostToolUse")
    plan = {**base, "tool_name": "ExitPlanMode", "tool_input": {"plan": "1. Raise the tax"}}
    assert (only("claude-code", plan).kind, only("claude-code", plan).snippet) == (
        "note", "1. Raise the tax",
    )  # fmt: skip
    asked = {"questions": [], "answers": {"Which rate?": "19 %"}}
    chosen = {**base, "tool_name": "AskUserQuestion", "tool_input": {}, "tool_response": asked}
    assert only("claude-code", chosen).snippet == "Which rate?\n→ 19 %"


def test_several_edits_of_one_call_are_several_events_with_keys_of_their_own() -> None:
    base = payload("claude-code", "PostToolUse", tool_name="Edit")
    edits = [{"old_string": "a", "new_string": "b"}, {"old_string": "c", "new_string": "d\ne"}]
    call = {
        **base,
        "tool_name": "MultiEdit",
        "tool_input": {"file_path": "price.py", "edits": edits},
        "tool_response": {},
    }
    events = read_hook("claude-code", call, NOW, lambda _path, text: (3, 3 + text.count("\n")))
    places = [
        (one.draft.file_path, one.draft.snippet, one.draft.selection_range)
        for one in events.captured
    ]
    path = "/home/dev/shop/price.py"
    assert places == [(path, "b", (3, 3)), (path, "d\ne", (3, 4))]
    assert len({one.key for one in events.captured}) == 2
    cell = {"notebook_path": "/n.ipynb", "new_source": "print(1)\n", "cell_id": "x"}
    notebook = {**base, "tool_name": "NotebookEdit", "tool_input": cell, "tool_response": {}}
    assert only("claude-code", notebook).file_path == "/n.ipynb"


def test_windows_paths_are_told_with_slashes() -> None:
    base = payload("claude-code", "PostToolUse", tool_name="Write")
    for path in (r"C:\shop\price.py", "/c:/shop/price.py", "file:///c:/shop/price.py"):
        call = {
            **base,
            "cwd": "C:\\shop",
            "tool_input": {"file_path": path, "content": "x = 1\n"},
            "tool_response": {},
        }
        assert only("claude-code", call).file_path == "C:/shop/price.py"
        assert told("claude-code", call).folder == "C:/shop"
    within = {**base, "cwd": "C:\\shop", "tool_response": {}}
    within["tool_input"] = {"file_path": "src\\a.py", "content": "x"}
    assert only("claude-code", within).file_path == "C:/shop/src/a.py"


def test_what_our_own_command_prints_is_not_remembered_again() -> None:
    base = payload("claude-code", "PostToolUse", tool_name="Bash")
    for command, kept in (
        ("localmem query 'the gateway'", False),
        (" /opt/venv/bin/localmem context x", False),
        ("localmem", False),
        ("grep localmem setup.py", True),
        ("localmem-test run", True),
        ("cat localmem/a.py", True),
    ):
        one = {**base, "tool_input": {"command": command}}
        assert bool(told("claude-code", one).captured) == kept, command
