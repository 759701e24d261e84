"""Admission: deny lists by path, project and tool."""

from __future__ import annotations

import pytest

from localmem_node.capture.admission import Admission
from localmem_node.errors import ConfigError
from localmem_node.project import project_of_remote
from localmem_protocol.errors import EventError
from localmem_protocol.limits import LABEL_BYTES_MAX, SNIPPET_BYTES_MAX
from support.events import draft


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*.log", "a/b/x.log"),
        ("*.log", "x.log"),
        ("node_modules", "app/node_modules/x/y.js"),
        ("node_modules/", "node_modules/y.js"),
        ("secrets/**", "app/secrets/a/b.txt"),
        ("conf/*.ini", "app/conf/x.ini"),
        ("/etc/**", "/etc/passwd"),
        ("**/gen/*.py", "a/b/gen/c.py"),
        ("a?c", "abc"),
        ("a*b*c", "axxbyyc"),
        ("*.TXT", "C:\\Users\\me\\x.TXT"),
    ],
)
def test_a_path_on_the_deny_list_is_refused(glob: str, path: str) -> None:
    with pytest.raises(EventError) as caught:
        Admission([glob]).admit(draft(filePath=path))
    assert caught.value.field == "filePath"
    assert glob in caught.value.problem


@pytest.mark.parametrize(
    ("glob", "path"),
    [("*.log", "x.log.py"), ("*.log", "catalog"), ("conf/*.ini", "conf/a/x.ini"), ("/etc/**", "my/etc/x"),
     ("a?c", "ac"), ("a*b*c", "acb"), ("*.txt", "x.TXT"), ("a.b", "axb")],
)  # fmt: skip
def test_other_paths_pass(glob: str, path: str) -> None:
    assert Admission([glob]).admit(draft(filePath=path)).file_path == path


@pytest.mark.parametrize(
    "path", [".env", "app/.env", "keys/id_ed25519", "x.pem", "/root/.aws/credentials"]
)
def test_files_that_hold_secrets_are_refused_without_being_listed(path: str) -> None:
    with pytest.raises(EventError):
        Admission().admit(draft(filePath=path))


@pytest.mark.parametrize("glob", ["*", "/", "**", "*/**"])
def test_a_pattern_that_says_nothing_or_too_much_is_a_wrong_setting(glob: str) -> None:
    with pytest.raises(ConfigError, match="deny_paths"):
        Admission([glob])


@pytest.mark.timeout(20)
def test_hostile_patterns_and_paths_cost_little() -> None:
    admission = Admission(["*a*a*a*a*a*a*a*a*b", "**/a/**/a/**/b"])
    path = "a/" * 1000 + "a" * 1000
    for _ in range(10):
        assert admission.admit(draft(filePath=path)).file_path == path


def test_a_denied_project_is_refused_by_id_and_by_remote() -> None:
    remote = "git@github.com:acme/secret.git"
    identity = project_of_remote(remote)
    assert identity is not None
    for entry in (identity, remote):
        with pytest.raises(EventError) as caught:
            Admission(deny_projects=[entry]).admit(draft(project=identity))
        assert caught.value.field == "project"
    assert Admission(deny_projects=[remote]).admit(draft(project="other")).project == "other"
    with pytest.raises(ConfigError, match="deny_projects"):
        Admission(deny_projects=["my project"])


@pytest.mark.parametrize(
    ("glob", "tool"),
    [("cursor", "cursor"), ("Cursor", "cursor"), ("cursor", "CURSOR"), ("mcp__*", "mcp__github__search"),
     ("*-agent", "review-agent"), ("gpt-?", "gpt-5"), ("a*b*c", "a1b2c")],
)  # fmt: skip
def test_a_denied_tool_is_refused_by_name_and_by_pattern(glob: str, tool: str) -> None:
    with pytest.raises(EventError) as caught:
        Admission(deny_tools=[glob]).admit(draft(tool=tool))
    assert caught.value.field == "tool"
    assert "capture.deny_tools" in caught.value.problem
    assert glob in caught.value.problem


@pytest.mark.parametrize(
    ("glob", "tool"),
    [("cursor", "cursor2"), ("cursor", "my-cursor"), ("mcp__*", "mcp"), ("gpt-?", "gpt-10"), ("a.c", "abc")],
)  # fmt: skip
def test_other_tools_pass(glob: str, tool: str) -> None:
    assert Admission(deny_tools=[glob]).admit(draft(tool=tool)).tool == tool
    assert Admission(deny_tools=[glob]).admit(draft(tool=None)).tool is None


@pytest.mark.parametrize("glob", ["*", "**"])
def test_a_pattern_for_every_tool_is_a_wrong_setting(glob: str) -> None:
    with pytest.raises(ConfigError, match="deny_tools"):
        Admission(deny_tools=[glob])


def test_a_session_id_stays_though_it_looks_drawn() -> None:
    session = "ses_9fK2mQ7xLw3RtZ8bVn5cYd1H"
    admitted = Admission().admit(draft(session=session, tool="x1Y2z3A4b5C6d7E8f9G0h1I2"))
    assert (admitted.session, admitted.tool) == (session, "x1Y2z3A4b5C6d7E8f9G0h1I2")


def test_what_comes_out_still_keeps_every_limit() -> None:
    password = "password = 'a1!'\n"
    snippet = ("password='abc12!'\n" * (SNIPPET_BYTES_MAX // 18))[:SNIPPET_BYTES_MAX]
    label = "password='abc12!' " * 7
    admitted = Admission().admit(draft(snippet=snippet, session=label[:LABEL_BYTES_MAX]))
    assert len(admitted.snippet.encode()) <= SNIPPET_BYTES_MAX
    assert len((admitted.session or "").encode()) <= LABEL_BYTES_MAX
    assert "abc12!" not in (admitted.session or "")
    assert Admission().admit(draft(snippet=password)).snippet == password  # too short to be one
