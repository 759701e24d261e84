"""The tools over an engine: what they find, keep and forget, and what they say to bad arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from localmem_node.engine import Engine
from localmem_node.errors import NodeError, QueryError
from localmem_node.mcp_server.calls import Answer, Calls
from localmem_node.mcp_server.scope import Caller, parse_caller
from localmem_node.mcp_server.tools import TOOLS, ToolName
from localmem_node.project import project_at, project_id
from localmem_protocol.errors import EventError, ProtocolError
from support.events import draft
from support.git_repository import Repository
from support.hashing_encoder import HashingEncoder
from support.node import NOW_MS, StandingClock, open_store
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

DAY_MS = 86_400_000
NOBODY = Caller()
UNKNOWN = "a" * 16


class Node:
    """An engine, and the tools over it."""

    def __init__(self, path: Path) -> None:
        self.clock = StandingClock()
        self.engine = Engine(
            open_store(path),
            HashingEncoder(),
            self.clock,
            keystore=FixedKeyStore(),
            random=SeededRandom(1),
        )
        self.used: list[str] = []
        self.closed: set[str] = set()
        self.calls = Calls(
            self.engine,
            self.clock,
            used=self.used.extend,
            closed=lambda projects: "" if self.closed.isdisjoint(projects) else "it is paused",
        )

    def record(self, text: str, **changes: Any) -> str:
        """The id of a note."""
        fields = {"kind": "note", "filePath": None, "selectionRange": None, "timestamp": NOW_MS}
        return self.engine.record([draft(snippet=text, **(fields | changes))])[0].id

    def call(self, name: ToolName, caller: Caller = NOBODY, /, **arguments: Any) -> Answer:
        return self.calls.call(name, arguments, caller)

    def found(self, caller: Caller = NOBODY, /, **arguments: Any) -> list[str]:
        answer = self.call("query_recent", caller, **arguments)
        ids = answer.structured["contextIds"]
        assert isinstance(ids, list)
        return ids


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "memory.localmem")
    yield node
    node.engine.close()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "work").mkdir()
    return Repository(tmp_path / "work")


def test_a_query_answers_with_lines_and_ids_that_give_details(node: Node) -> None:
    wanted = node.record("We retry the gateway five times\nbecause it bans us")
    node.record("Lunch is at noon")
    answer = node.call("query_recent", query="how often is the gateway retried")
    assert answer.structured["text"] == answer.text
    assert answer.structured["contextIds"][0] == wanted
    assert "because it bans us" not in answer.text
    details = node.call("query_recent", ids=[wanted])
    assert "because it bans us" in details.text
    assert details.structured["contextIds"] == [wanted]
    assert node.used == [wanted]


def test_no_more_than_eight_ids_stand_beside_the_text_and_all_lines_have_one(node: Node) -> None:
    ids = [node.record(f"gateway note {number}") for number in range(12)]
    answer = node.call("query_recent", k=12)
    assert answer.structured["contextIds"] == ids[::-1][:8]
    assert all(one in answer.text for one in ids)


def test_a_question_about_nothing_that_is_here_finds_nothing(node: Node) -> None:
    answer = node.call("query_recent", query="anything")
    assert answer.structured == {"text": "Nothing found.", "contextIds": []}


def test_a_caller_with_a_project_is_answered_from_it_unless_it_says_otherwise(
    node: Node, repository: Repository
) -> None:
    here = project_id(repository.path)
    caller = Caller(str(repository.path / "src"), "codex-mcp-client")
    own = node.record("gateway here", project=here)
    other = node.record("gateway there", project="another")
    assert node.found(caller, query="gateway") == [own]
    assert node.found(caller, query="gateway", project="another") == [other]
    assert node.found(caller, query="gateway", project=str(repository.path)) == [own]
    assert set(node.found(caller, query="gateway", project="all")) == {own, other}
    assert set(node.found(query="gateway")) == {own, other}
    answer = node.call("query_recent", caller, project="all")
    assert f"{other} note, now, elsewhere: gateway there" in answer.text
    assert f"{own} note, now: gateway here" in answer.text


def test_who_finds_nothing_in_a_project_is_told_how_to_look_further(
    node: Node, repository: Repository
) -> None:
    node.record("gateway there", project="another")
    caller = Caller(str(repository.path))
    assert node.call("query_recent", caller, query="gateway").text == (
        'Nothing found in this project; project "all" looks in every one.'
    )
    assert node.call("query_recent", caller, query="gateway", project="x").text == "Nothing found."


def test_questions_are_narrowed_by_file_kind_tool_and_time(node: Node) -> None:
    old = node.record("one", timestamp=NOW_MS - 8 * DAY_MS, kind="error", tool="codex")
    new = node.record("two", filePath="src/a.py", timestamp=NOW_MS - DAY_MS)
    assert node.found(kind="error") == node.found(tool="codex") == node.found(before="7d") == [old]
    assert node.found(file="a.py") == node.found(since="7d") == [new]
    assert node.found(since=NOW_MS - 2 * DAY_MS) == [new]


def test_answers_and_details_keep_events_longer(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = node.record("gateway retries")
    counted: list[list[str]] = []
    monkeypatch.setattr(node.engine._live, "answers", counted)
    node.call("query_recent", query="gateway retries")
    node.call("query_recent", ids=[one])
    node.calls.read(f"localmem://event/{one}", NOBODY)
    assert counted == [[one]] * 3


def test_what_is_recorded_has_the_place_the_project_and_the_tool_of_the_caller(
    node: Node, repository: Repository
) -> None:
    repository.write("src/a.py", "x")
    caller = Caller(str(repository.path / "src"), "claude-code")
    answer = node.call(
        "record_event", caller, text="why", file="a.py", lines=[1, 2], kind="edit", pinned=True
    )
    event = node.engine.recent(1)[0].event
    assert answer.text == f"Recorded as {event.id}."
    assert answer.structured["contextIds"] == [event.id]
    assert (event.file_path, event.selection_range, event.kind) == ("src/a.py", (1, 2), "edit")
    assert (event.project, event.tool) == (project_id(repository.path), "claude-code")
    assert (event.timestamp, event.pinned) == (NOW_MS, True)
    node.call("record_event", caller, text="absolute", file=str(repository.path / "src/a.py"))
    assert node.engine.recent(1)[0].event.file_path == "src/a.py"
    node.call("record_event", text="nowhere", file="a.py")
    event = node.engine.recent(1)[0].event
    assert (event.file_path, event.project, event.tool) == ("a.py", None, "mcp")


def test_what_was_recorded_under_an_earlier_id_is_not_elsewhere(
    node: Node, repository: Repository
) -> None:
    own = node.record("gateway here", project=project_id(repository.path))
    repository.git("remote", "add", "origin", "https://example.org/shop.git")
    caller = Caller(str(repository.path))
    assert f"{own} note, now: gateway here" in node.call("query_recent", caller).text


def test_a_path_longer_than_paths_can_be_is_in_no_project(node: Node) -> None:
    path = "/" + "a" * 300
    node.call("record_event", Caller(path), text="why", file=f"{path}/{path}.py")
    with pytest.raises(QueryError, match="is in no git repository"):
        node.call("query_recent", project=path)


def test_secrets_are_left_out_and_that_is_said(node: Node) -> None:
    key = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
    answer = node.call("record_event", text=f"the token is {key}")
    assert "what looked secret was left out" in answer.text
    assert key not in node.engine.recent(1)[0].event.snippet


def test_a_timeline_of_a_session_and_of_a_project_is_in_order(node: Node) -> None:
    ids = [
        node.record(f"step {at}", session="s1", project="p", timestamp=NOW_MS - at * 60_000)
        for at in range(5)  # each older than the one before, as an import may have it
    ]
    node.record("another", session="s2", project="q")
    answer = node.call("timeline", session="s1")
    assert answer.structured["contextIds"] == ids[::-1]
    assert answer.text.startswith("The newest 5 of the session, oldest first")
    assert node.call("timeline", project="p").structured["contextIds"] == ids[::-1]
    assert len(node.call("timeline").structured["contextIds"]) == 6


def test_a_timeline_around_an_event_has_its_neighbours_in_its_session(node: Node) -> None:
    ids = []
    for at in range(30):
        ids.append(node.record(f"step {at}", session="s1", timestamp=NOW_MS + at))
        node.record(f"noise {at}", session="s2", timestamp=NOW_MS + at)
    answer = node.call("timeline", id=ids[10], k=5)
    assert answer.structured["contextIds"] == ids[8:13]
    assert node.call("timeline", id=ids[0], k=5).structured["contextIds"] == ids[:3]
    assert node.call("timeline", id=ids[10], k=1).structured["contextIds"] == [ids[10]]
    wide = node.call("timeline", id=ids[10], k=5, project="all").structured["contextIds"]
    assert len(wide) == 5
    assert set(wide) - set(ids)


def test_an_event_is_pinned_and_let_go(node: Node) -> None:
    one = node.record("gateway")
    assert node.call("pin", id=one).text == f"{one} is pinned."
    assert node.engine.recent(1)[0].event.pinned
    assert node.call("pin", id=one, pinned=False).text == f"{one} is not pinned any more."
    assert not node.engine.recent(1)[0].event.pinned


def test_forgetting_takes_ids_and_says_what_is_gone(node: Node) -> None:
    one, two = node.record("secret plan"), node.record("kept")
    answer = node.call("forget", ids=[one, UNKNOWN])
    assert answer.structured["forgotten"] == [one]
    assert answer.structured["unknown"] == [UNKNOWN]
    assert "secret plan" in answer.text
    assert [found.event.id for found in node.engine.recent(9)] == [two]
    with pytest.raises(QueryError, match="none of them is here; nothing was forgotten"):
        node.call("forget", ids=[one])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("query_recent", {"query": ""}, "query: is empty"),
        ("query_recent", {"query": " \n"}, "query: is empty"),
        ("query_recent", {"query": "a\0b"}, "query: contains a NUL character"),
        ("query_recent", {"query": "\ud800"}, "query: contains half of a surrogate pair"),
        ("query_recent", {"query": "x" * 100_000}, "query: 100000 characters, over the limit"),
        ("query_recent", {"query": 5}, "query: is empty; say what to look for"),
        ("query_recent", {"k": 0}, "k: must be a whole number from 1 to 100"),
        ("query_recent", {"k": 101, "query": "x"}, "k: must be a whole number from 1 to 100"),
        ("query_recent", {"k": "8"}, "k: must be a whole number from 1 to 100"),
        ("query_recent", {"kind": "thought"}, "kind: must be one of prompt, edit"),
        ("query_recent", {"since": "soon"}, "since: is no date or time such as"),
        ("query_recent", {"project": 5}, 'project: must be "all", a project id, or an absolute'),
        ("query_recent", {"project": "/"}, "project: / is in no git repository"),
        ("query_recent", {"ids": []}, "ids: are 0; give 1 to"),
        ("query_recent", {"ids": "x"}, "ids: must be a list of event ids"),
        ("query_recent", {"ids": ["../x"]}, "ids: '../x' is not the id of an event"),
        ("query_recent", {"ids": [UNKNOWN]}, f"ids: {UNKNOWN}: no such event here"),
        ("query_recent", {"ids": [UNKNOWN], "k": 3}, "k: does not go with ids"),
        ("query_recent", {"wrong": 1}, "wrong: is no argument of query_recent; there are query"),
        ("record_event", {}, "text: is missing"),
        ("record_event", {"text": ""}, "text: is empty"),
        ("record_event", {"text": "x" * 100_000}, "text: 100000 bytes, over the limit of 65536"),
        ("record_event", {"text": "a\0"}, "text: contains a NUL character"),
        ("record_event", {"text": "x", "kind": "edit"}, "file: missing"),
        ("record_event", {"text": "x", "file": 5}, "file: must be a path"),
        ("record_event", {"text": "x", "file": "a", "lines": [3, 1]}, "lines: "),
        ("record_event", {"text": "x", "pinned": "yes"}, "pinned: must be true or false"),
        ("timeline", {"id": UNKNOWN}, f"id: {UNKNOWN}: no such event here"),
        ("timeline", {"session": "s" * 200}, "session: 200 bytes, over the limit of 128"),
        ("pin", {}, "id: is missing"),
        ("pin", {"id": UNKNOWN}, f"id: '{UNKNOWN}' is not an event that is here"),
        ("pin", {"id": UNKNOWN, "pinned": 1}, "pinned: must be true or false"),
        ("forget", {"ids": [UNKNOWN] * 3}, "ids: none of them is here"),
        ("forget", {"ids": [UNKNOWN[:-1] + c for c in "bcdefghijklm" * 9]}, "ids: none of them"),
    ],
)
def test_a_bad_argument_is_named_and_nothing_happens(
    node: Node, name: ToolName, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises((NodeError, EventError)) as raised:
        node.calls.call(name, arguments, NOBODY)
    assert str(raised.value).startswith(message)
    assert len(node.engine) == 0


def test_more_ids_than_a_call_takes_are_refused(node: Node) -> None:
    ids = [f"{'a' * 14}{one}{two}" for one in "abcdefghijk" for two in "abcdefghijk"]
    with pytest.raises(QueryError, match="ids: are 121; give 1 to 100"):
        node.call("forget", ids=ids)
    with pytest.raises(QueryError, match="ids: are 121; give 1 to 20"):
        node.call("query_recent", ids=ids)


def test_resources_are_the_newest_of_all_of_a_project_and_one_event(
    node: Node, repository: Repository
) -> None:
    one = node.record("gateway\nin full", project=project_id(repository.path))
    two = node.record("other", project="other")
    assert two in node.calls.read("localmem://recent", NOBODY)
    here = node.calls.read("localmem://recent", Caller(str(repository.path)))
    assert one in here
    assert two not in here
    assert two in node.calls.read("localmem://project/other/recent", NOBODY)
    assert "in full" in node.calls.read(f"localmem://event/{one}", NOBODY)
    assert node.calls.read("localmem://project/none/recent", NOBODY) == "Nothing yet.\n"


@pytest.mark.parametrize(
    "uri",
    [
        "localmem://",
        "localmem://event/",
        f"localmem://event/{UNKNOWN}",
        "localmem://project//recent",
        "localmem://project/x",
        f"localmem://project/{'x' * 500}/recent",
        "file:///etc/passwd",
    ],
)
def test_an_address_with_nothing_is_an_error(node: Node, uri: str) -> None:
    with pytest.raises(QueryError):
        node.calls.read(uri, NOBODY)


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ({}, Caller()),
        ({"x-localmem-folder": "/home/a%20b/%C3%BC"}, Caller("/home/a b/ü")),
        ({"x-localmem-folder": "relative"}, Caller()),
        ({"x-localmem-folder": "${workspaceFolder}"}, Caller()),
        ({"x-localmem-folder": "/a%00b"}, Caller()),
        ({"x-localmem-folder": "/%FF"}, Caller()),
        ({"x-localmem-folder": "/" + "a" * 5000}, Caller()),
        ({"x-localmem-client": "cursor-vscode"}, Caller(None, "cursor-vscode")),
        ({"x-localmem-client": ""}, Caller()),
    ],
)
def test_who_calls_is_read_from_headers(headers: dict[str, str], caller: Caller) -> None:
    assert parse_caller(headers) == caller


@pytest.mark.parametrize(
    ("client", "tool"),
    [
        (None, "mcp"),
        ("claude-code", "claude-code"),
        ("codex-mcp-client", "codex"),
        ("Cursor", "cursor"),
        ("zed", "zed"),
    ],
)
def test_the_tool_of_an_event_is_the_hooks_name_of_the_client(
    client: str | None, tool: str
) -> None:
    assert Caller(None, client).tool == tool


def test_every_argument_in_a_schema_is_one_that_its_call_takes(node: Node) -> None:
    for tool in TOOLS:
        for name in tool.input_schema["properties"]:
            with pytest.raises((NodeError, ProtocolError)) as raised:
                node.calls.call(tool.name, {name: object(), "unheard": 1}, NOBODY)
            assert "unheard" in str(raised.value)


def test_a_pause_of_a_project_holds_for_its_files_whoever_records_them(
    node: Node, repository: Repository, tmp_path: Path
) -> None:
    before = project_at(repository.path).ids
    repository.commit("begin")
    node.closed.add(before[0])  # its id when it was paused
    inside, outside = Caller(str(repository.path)), Caller(str(tmp_path))
    for caller, file in ((inside, None), (inside, "/elsewhere/a.py"), (outside, "work/a.py")):
        with pytest.raises(QueryError, match="nothing is recorded: it is paused"):
            node.call("record_event", caller, text="a decision", file=file)
    node.call("record_event", outside, text="a decision", file="a.py")
    assert len(node.engine) == 1


def test_nothing_is_recorded_while_the_user_paused_it(node: Node) -> None:
    asked: list[tuple[str, ...]] = []

    def closed(projects: Sequence[str]) -> str:
        asked.append(tuple(projects))
        return "it is paused"

    calls = Calls(node.engine, node.clock, closed=closed)
    with pytest.raises(QueryError, match="paused"):
        calls.call("record_event", {"text": "secret plan"}, NOBODY)
    assert asked == [()]
    assert not node.engine.recent(1)
