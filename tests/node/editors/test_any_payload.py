"""Adapters take any JSON there is: they tell something, and what they tell is valid."""

from __future__ import annotations

import tracemalloc
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.capture.redaction import redact
from localmem_node.editors.captured import EDITORS, Editor, Step, Told
from localmem_node.editors.drafting import nowhere
from localmem_node.editors.reading import read_hook, reply_to
from localmem_protocol.events import Draft, parse_draft
from localmem_protocol.limits import SNIPPET_BYTES_MAX, TIMESTAMP_MS_MAX
from support.editor_fixtures import payload, payloads

REAL = [(editor, one) for editor in EDITORS for one in payloads(editor)]
NAMES = sorted({key for _, one in REAL for key in one} | {"edits", "range", "file_path", "content"})
TOOLS = ["Bash", "Edit", "Write", "MultiEdit", "NotebookEdit", "apply_patch", "Shell", "Read"]

text = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(
    [
        "", " ", "\0", "\ud83d", "a\ud800b", "\x1b[31mred\x1b[0m", "C:\\a\\b", "../..", "/", ".",
        "*** Begin Patch\n*** Update File: a\n@@\n-x\n+y\n*** End Patch", "*** Begin Patch\n+",
        "apply_patch <<'E'\n*** Begin Patch\n*** Add File: \n+z", "Exit code: 7\nOutput:\nx",
        "x" * 20_000, "\U0001f600" * 17_000, "/" + "d" * 5_000, *TOOLS,
    ]
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(text | st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Editor, dict[str, Any]]:
    """A real payload with a few of its fields, also inner ones, replaced or taken away."""
    editor, one = draw(st.sampled_from(REAL))
    changed = dict(one)
    for _ in range(draw(st.integers(0, 4))):
        inner = draw(st.sampled_from(["", "tool_input", "tool_response"]))
        found = changed.get(inner)
        target = dict(found) if isinstance(found, dict) else {} if inner else changed
        keys = sorted(target) or ["x"]
        if draw(st.booleans()):
            target[draw(st.sampled_from(keys) | st.sampled_from(NAMES))] = draw(json_values)
        else:
            target.pop(draw(st.sampled_from(keys)), None)
        if inner:
            changed[inner] = target
    return editor, changed


def valid(told: Told) -> None:
    """Everything that was told is what the daemon may take as it is."""
    assert told.editor in EDITORS
    assert told.step in get_args(Step)
    for captured in told.captured:
        draft = captured.draft
        fields = {
            "timestamp": draft.timestamp,
            "snippet": draft.snippet,
            "filePath": draft.file_path,
            "selectionRange": draft.selection_range,
            "modelResponseHash": draft.model_response_hash,
            "kind": draft.kind,
            "tool": draft.tool,
            "session": draft.session,
            "project": draft.project,
        }
        assert parse_draft(fields) == draft
        assert draft.tool == told.editor
        assert draft.session == told.session
        assert draft.project is None
        assert not set(draft.snippet) & {"\0", "\x1b", "\r"}
        for key in (captured.key, *captured.also):
            key.encode()
    for each in (told.session, told.folder, told.source, told.prompt):
        (each or "").encode()
    assert reply_to(told, "context") == reply_to(told, "context")


@given(mutated(), st.integers(-5, TIMESTAMP_MS_MAX + 5))
def test_a_real_payload_with_fields_that_are_wrong(
    one: tuple[Editor, dict[str, Any]], now_ms: int
) -> None:
    valid(read_hook(*one, now_ms, nowhere))
    valid(read_hook(*one, now_ms, lambda _path, _text: (7, 9)))


@given(st.sampled_from(EDITORS), json_values)
def test_any_json_at_all(editor: Editor, value: object) -> None:
    valid(read_hook(editor, value, 1, nowhere))


@given(st.sampled_from(REAL), json_values)
def test_any_value_in_the_place_of_a_tools_response(
    one: tuple[Editor, dict[str, Any]], value: object
) -> None:
    editor, fields = one
    wrong = {**fields, "tool_response": value, "tool_output": value, "edits": value}
    valid(read_hook(editor, wrong, 1, nowhere))


def only(told: Told) -> Draft:
    (captured,) = told.captured
    return captured.draft


def test_50_mb_of_output_are_kept_as_head_and_tail_without_a_copy_for_each_step() -> None:
    base = payload("claude-code", "PostToolUse", tool_name="Bash")
    output = "".join(f"line {number}\n" for number in range(4_000_000))
    assert len(output) > 50_000_000
    one = {**base, "tool_response": {"stdout": output, "stderr": "", "isImage": False}}
    tracemalloc.start()
    draft = only(read_hook("claude-code", one, 1, nowhere))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert draft.snippet.startswith("$ seq 1 900; echo err >&2\nline 0\nline 1\n")
    assert draft.snippet.endswith("line 3999998\nline 3999999")
    assert "characters left out …]" in draft.snippet
    assert len(draft.snippet) < 2_200
    assert peak < 2.5 * len(output)


@pytest.mark.parametrize("letter", ["x", "é", "漢", "\U0001f600"])
def test_the_longest_text_in_any_script_fits_an_event(letter: str) -> None:
    base = payload("claude-code", "UserPromptSubmit")
    draft = only(read_hook("claude-code", {**base, "prompt": letter * 70_000}, 1, nowhere))
    assert 10_000 < len(draft.snippet) < 16_100
    assert len(draft.snippet.encode()) <= SNIPPET_BYTES_MAX
    stop = {**payload("claude-code", "SubagentStop"), "agent_type": letter * 200}
    answered = read_hook(
        "claude-code", {**stop, "last_assistant_message": letter * 70_000}, 1, nowhere
    )
    assert len(only(answered).snippet.encode()) <= SNIPPET_BYTES_MAX


def test_terminal_colours_and_binary_bytes_leave_what_can_be_read() -> None:
    base = payload("codex", "PostToolUse")
    output = "\x1b[1;31mFAILED\x1b[0m a\0b\x07\r\n\x1b]0;title\x07done\udc80 \ud83d\ude00"
    draft = only(read_hook("codex", {**base, "tool_response": output}, 1, nowhere))
    assert draft.snippet.splitlines()[1:] == ["FAILED ab", "done� 😀"]


def test_a_cut_falls_between_words_so_that_no_half_of_a_secret_is_left() -> None:
    secret = "ghp_" + "A1b2C3d4" * 5
    base = payload("codex", "PostToolUse")
    for shift in range(0, 60, 7):
        output = "w" * 10 + " word" * 110 + "x" * shift + " " + secret + " end" * 1_000
        draft = only(read_hook("codex", {**base, "tool_response": output}, 1, nowhere))
        assert secret in draft.snippet or "ghp_" not in draft.snippet


def test_no_cut_lays_bare_what_is_marked_as_private() -> None:
    base = payload("claude-code", "UserPromptSubmit")
    for before, inside in ((3_000, 4_000), (3_000, 1_000), (10, 4_000), (4_000, 10)):
        prompt = "plain " * before + "<Private>" + "hidden " * inside + "</private>" + " end" * 900
        draft = only(read_hook("claude-code", {**base, "prompt": prompt}, 1, nowhere))
        assert "hidden" not in redact(draft.snippet)
        assert draft.snippet.endswith("end")
    never_closed = "plain " * 2_000 + "<private>" + "hidden " * 9_000
    draft = only(read_hook("claude-code", {**base, "prompt": never_closed}, 1, nowhere))
    assert draft.snippet == ("plain " * 2_000)
    whole = "<private>" + "hidden " * 9_000
    draft = only(read_hook("claude-code", {**base, "prompt": whole}, 1, nowhere))
    assert draft.snippet == "[redacted:private]"


def test_json_may_be_deeper_than_functions_may_call() -> None:
    base = payload("claude-code", "PostToolUse", tool_name="Bash")
    nested: object = "said"
    for _ in range(5_000):
        nested = {"content": nested}
    draft = only(read_hook("claude-code", {**base, "tool_response": nested}, 1, nowhere))
    assert draft.snippet.endswith("said")
