"""What changed, by the patches that editors report: the new text, and where it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.capture.redaction import redact
from localmem_node.editors.codex import result_of
from localmem_node.editors.patches import (
    CHANGES_MAX,
    Change,
    changes_of_diff,
    changes_of_hunks,
    changes_of_patch,
    find_patch,
    lines_in_diff,
)
from localmem_node.editors.texts import bounded, label_of, path_of, shorten

PATCH = """*** Begin Patch
*** Add File: new.py
+one
+
+two
*** Update File: a.py
*** Move to: b.py
@@ def f():
 def f():
-    old
+    new
     same
+    more
@@
-gone
 around
*** Delete File: c.py
*** Update File: d.py
-x
+y
*** End of File
*** End Patch"""


def test_a_patch_of_several_files() -> None:
    changes = changes_of_patch(PATCH)
    assert [(one.path, one.change.text, one.change.lines, one.whole) for one in changes] == [
        ("new.py", "one\n\ntwo", (1, 3), True),
        ("b.py", "    new\n    same\n    more", None, False),
        ("b.py", "around", None, False),
        ("d.py", "y", None, False),
    ]
    assert changes[1].change.before == "def f():\n    old\n    same"
    assert changes[1].change.offset == 1


def test_a_patch_is_found_inside_a_command_and_without_its_end() -> None:
    command = f"cd src && apply_patch <<'EOF'\n{PATCH}\nEOF\n"
    assert find_patch(command) == PATCH.removesuffix("*** End Patch")
    assert find_patch(PATCH[:-30]) == PATCH[:-30]
    assert find_patch("git apply x.patch") is None


def test_a_unified_diff_tells_where_new_text_stands() -> None:
    diff = "--- a\n+++ b\n@@ -1,2 +1,3 @@\n a\n+b\n c\n@@ -10,2 +11,2 @@ def f\n x\n-y\n+z\n"
    diff += "\\ No newline at end of file\n"
    assert [(one.text, one.lines) for one in changes_of_diff(diff)] == [
        ("b", (2, 2)),
        ("z", (12, 12)),
    ]
    assert lines_in_diff(diff, "x\nz") == (11, 12)
    assert lines_in_diff(diff, "a\nb\nc") == (1, 3)
    assert lines_in_diff(diff, "c") == (3, 3)
    assert lines_in_diff(diff, "y") is None
    assert lines_in_diff(diff, "b\nc\nx") is None
    assert lines_in_diff("", "y") is None


def test_hunks_without_new_text_or_sense_are_left_out() -> None:
    hunks = [
        {"newStart": 3, "lines": [" a", "-b", "+c", " d", "\\ No newline at end of file"]},
        {"newStart": 9, "lines": ["-b"]},
        {"newStart": 0, "lines": [" a", " b"]},
        {"newStart": True, "lines": ["+e"]},
        {"newStart": -4, "lines": ["+f", 7]},
        {"lines": None},
        "hunk",
    ]
    assert changes_of_hunks(hunks) == [
        Change("c", (4, 4), "a\nb\nd", 1),
        Change("e", None, "", 0),
        Change("f", None, "", 0),
    ]
    assert changes_of_hunks({"lines": []}) == []
    assert len(changes_of_hunks([{"newStart": 1, "lines": ["+x"]}] * 500)) == CHANGES_MAX


@given(st.text(st.sampled_from("+-@ *\nab#"), max_size=200))
def test_any_text_is_taken_as_a_patch_or_a_diff(text: str) -> None:
    for patch in (text, f"*** Begin Patch\n*** Update File: a\n{text}"):
        for one in changes_of_patch(find_patch(patch) or patch):
            assert one.change.text.strip()
    for change in changes_of_diff(f"@@ -1 +1 @@\n{text}"):
        assert change.lines is not None
        assert change.lines[1] - change.lines[0] == change.text.count("\n")


@pytest.mark.parametrize(
    ("response", "result"),
    [
        ("plain\n", (None, "plain\n")),
        ("Exit code: 1\nWall time: 0 seconds\nOutput:\nno\n", (1, "no\n")),
        ("Chunk ID: 1\nWall time: 0.1 seconds\nProcess exited with code 2\nOutput:\nx", (2, "x")),
        ("Wall time: 0.0 seconds\nOutput:\nExit code: 0\nWall time: 0 seconds\nOutput:\nok", (0, "ok")),
        ('{"output":"bad","metadata":{"exit_code":3,"duration_seconds":0.1}}', (3, "bad")),
        ({"output": "bad", "metadata": {"exit_code": 3}}, (3, "bad")),
        ({"stdout": "a", "stderr": "b", "exit_code": True}, (None, "a\nb")),
        ('{"output":"what a command printed"}', (None, '{"output":"what a command printed"}')),
        ("a log\nOutput:\nof its own", (None, "a log\nOutput:\nof its own")),
        ('{"broken', (None, '{"broken')),
        ([{"type": "input_text", "text": "blocks"}], (None, "blocks")),
        (None, (None, "")),
    ],
)  # fmt: skip
def test_exit_codes_are_found_in_every_form_of_a_result(
    response: object, result: tuple[int | None, str]
) -> None:
    assert result_of(response) == result


@pytest.mark.parametrize(
    ("path", "folder", "told"),
    [
        ("a.py", "/home/dev", "/home/dev/a.py"),
        ("../b/./a.py", "/home/dev", "/home/b/a.py"),
        ("a.py", None, "a.py"),
        ("/a/b", "/home", "/a/b"),
        (r"C:\shop\a b.py", "/home", "C:/shop/a b.py"),
        ("src\\a.py", "c:\\shop\\", "C:/shop/src/a.py"),
        (r"\\server\share\a", None, "//server/share/a"),
        ("/mnt/c:/x", None, "/mnt/c:/x"),
        ("", "/home", None),
        (".", None, None),
        ("a\nb", "/home", None),
        ("a\ud800", "/home", None),
        ("x" * 5_000, "/home", None),
        (7, "/home", None),
    ],
)
def test_paths_are_told_in_one_form(path: object, folder: str | None, told: str | None) -> None:
    assert path_of(path, path_of(folder)) == told


def test_long_text_keeps_its_ends_at_line_breaks() -> None:
    text = "\n".join(f"line {number}" for number in range(10_000))
    kept = shorten(text, 100, 50)
    first, *_, last = kept.splitlines()
    assert (first, last) == ("line 0", "line 9999")
    cut = [one for one in kept.splitlines() if one not in text.splitlines()]
    assert len(cut) == 1
    assert cut[0].startswith("[… ")
    assert cut[0].endswith(" characters left out …]")
    assert len(kept) < 200
    assert bounded("short \x07text") == "short text"
    assert label_of("a\nb" + "é" * 100) == "ab" + "é" * 63


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ([" <private>", "-a", "+hidden", " </private>"], "[redacted:private]"),
        ([" <private>", "-a", "+hidden", "+</private>", "+shown"], "\nshown"),
        ([" <private>", " </private>", "+shown"], "shown"),
        (["-<private>", "+shown"], "shown"),
    ],
)
def test_a_change_within_a_private_span_stays_private(lines: list[str], kept: str) -> None:
    (change,) = changes_of_hunks([{"newStart": 1, "lines": lines}])
    assert redact(change.text) == kept
