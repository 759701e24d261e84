"""What a model is told at a step: what it does not have, once, and what a compaction took comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localmem_node.context import CHARACTERS_MAX
from localmem_node.delivered import Delivered
from localmem_node.editors.captured import Step, Told
from localmem_node.engine import Engine
from localmem_node.errors import StoreError
from localmem_node.plain_text import size_of
from localmem_node.project import Project
from localmem_node.recall import Recall, Recalled
from localmem_node.session_states import SessionState, SessionStates
from support.events import draft
from support.node import NOW_MS, StandingClock, open_node

KEY = b"k" * 32
PROJECT = Project("/srv/app", ("0123456789abcdef", "aaaaaaaaaaaaaaaa"))
QUESTION = "How did we parse the invoice totals?"


class Desk:
    """An engine, and a recall over it that can be opened anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = StandingClock()
        self.engine: Engine = open_node(folder / "store", clock=self.clock)
        self.reopen()

    def reopen(self) -> None:
        self.recall = Recall(
            self.engine,
            Delivered(self.folder / "delivered", KEY),
            SessionStates(self.folder / "sessions", KEY),
        )

    def record(self, snippet: str, session: str = "old", **more: Any) -> None:
        self.clock.ms += 1000
        fields: dict[str, Any] = {"filePath": None, "selectionRange": None, "kind": "prompt"}
        fields |= {"project": PROJECT.id, "tool": "codex", "timestamp": self.clock.ms}
        self.engine.record([draft(**{**fields, "snippet": snippet, "session": session, **more})])

    def step(
        self,
        step: Step,
        session: str | None = "new",
        *,
        source: str | None = None,
        prompt: str | None = None,
        project: Project | None = PROJECT,
    ) -> Recalled:
        self.clock.ms += 1000
        told = Told("codex", "X", step, session, "/srv/app", source, prompt)
        self.told = told
        self.recall.note(told, self.clock.ms)
        return self.recall.recall(told, project, self.clock.ms)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.engine.close()


INVOICE = "def parse_invoice_totals(text): parse the invoice totals with decimals"


def test_a_session_begins_with_the_digest_of_its_project_once(desk: Desk) -> None:
    desk.record("fix the parser")
    assert "`fix the parser`" in desk.step("session start", source="startup").text
    assert desk.step("session start", source="startup").text == ""
    desk.reopen()
    assert desk.step("session start", source="resume").text == ""
    assert desk.step("prompt", prompt="go on").text == ""


def test_a_start_that_was_missed_is_made_up_for_with_the_first_prompt(desk: Desk) -> None:
    desk.record("fix the parser")
    assert "`fix the parser`" in desk.step("prompt", prompt="zebra").text
    assert desk.step("prompt", prompt="zebra").text == ""


def test_another_project_is_in_no_digest_and_an_earlier_id_is(desk: Desk) -> None:
    desk.record("elsewhere", project="ffffffffffffffff")
    assert desk.step("session start").text == ""
    desk.record("before it had a remote", project=PROJECT.ids[1])
    assert "before it had a remote" in desk.step("session start", "newer").text


def test_outside_of_a_project_there_is_no_digest(desk: Desk) -> None:
    desk.record("fix the parser", project=None)
    assert desk.step("session start", project=None).text == ""


def test_a_prompt_is_answered_once_from_other_sessions(desk: Desk) -> None:
    desk.record(INVOICE)
    desk.step("session start")
    found = desk.step("prompt", prompt=QUESTION)
    assert INVOICE in found.text
    assert [event.snippet for event in found.events] == [INVOICE]
    assert desk.step("prompt", prompt=QUESTION).text == ""
    desk.reopen()
    assert desk.step("prompt", prompt=QUESTION).text == ""
    assert INVOICE in desk.step("prompt", "another", prompt=QUESTION).text


def test_what_nobody_was_there_to_hear_is_told_again(desk: Desk) -> None:
    desk.record(INVOICE)
    first = desk.step("prompt", prompt=QUESTION)
    assert first.owed == "project"
    desk.recall.take_back(desk.told, first)
    assert desk.step("prompt", prompt=QUESTION) == first


def test_an_own_event_is_left_out_until_a_compaction_takes_it(desk: Desk) -> None:
    desk.step("session start")
    desk.record(INVOICE, "new")
    assert desk.step("prompt", prompt=QUESTION).text == ""
    desk.step("before compaction")
    desk.reopen()
    assert f"- asked: `{INVOICE}`" in desk.step("session start", source="compact").text
    assert INVOICE in desk.step("prompt", prompt=QUESTION).text
    desk.record(f"{INVOICE} again", "new")
    assert desk.step("prompt", prompt=QUESTION).text == ""


def test_own_events_do_not_take_the_places_of_others(desk: Desk) -> None:
    desk.record(f"{INVOICE} in the old session")
    for number in range(80):
        desk.record(f"{INVOICE} {number}", "new")
    desk.step("session start")
    assert "in the old session" in desk.step("prompt", prompt=QUESTION).text


def test_a_compaction_is_told_of_once_whatever_hooks_tell_it(desk: Desk) -> None:
    desk.record("my own task", "new")
    ways: list[list[tuple[Step, str | None]]] = [
        [("before compaction", None), ("session start", "compact"), ("after compaction", None)],
        [("before compaction", None), ("after compaction", None), ("session start", "compact")],
        [("session start", "compact"), ("after compaction", None)],
        [("session start", "compact"), ("session start", "compact")],
        [("before compaction", None), ("session start", "compact"), ("session start", "compact")],
        [("after compaction", None), ("session start", "compact")],
        [("after compaction", None)],
        [("before compaction", None)],
    ]
    for way in ways:
        texts = [desk.step(step, source=source).text for step, source in way]
        texts.append(desk.step("prompt", prompt="zebra").text)
        assert sum("`my own task`" in text for text in texts) == 1, way
        assert desk.step("prompt", prompt="zebra").text == "", way


def test_a_digest_that_failed_is_still_owed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.record("fix the parser")

    def fail(*arguments: object, **more: object) -> None:
        raise StoreError("cannot be read")

    with monkeypatch.context() as broken:
        broken.setattr(desk.engine, "recent", fail)
        with pytest.raises(StoreError):
            desk.step("session start")
    assert "`fix the parser`" in desk.step("prompt", prompt="zebra").text


def test_what_is_lost_while_a_digest_is_told_is_owed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.record("my own task", "new")
    recent = desk.engine.recent

    def compacted(*arguments: Any, **more: Any) -> Any:
        monkeypatch.undo()
        desk.recall.note(Told("codex", "X", "before compaction", "new", None), desk.clock.ms)
        return recent(*arguments, **more)

    monkeypatch.setattr(desk.engine, "recent", compacted)
    desk.step("session start")
    assert "`my own task`" in desk.step("prompt", prompt="zebra").text


def test_two_compactions_in_one_turn_are_two(desk: Desk) -> None:
    desk.record("my own task", "new")
    for _ in range(2):
        assert "my own task" in desk.step("session start", source="compact").text
        desk.step("tool")


def test_after_clear_the_project_is_told_with_what_the_session_did(desk: Desk) -> None:
    desk.step("session start")
    desk.record(INVOICE, "new")
    assert "parse_invoice_totals" in desk.step("session start", source="clear").text
    assert INVOICE in desk.step("prompt", prompt=QUESTION).text


def test_the_projects_own_go_before_others(desk: Desk) -> None:
    desk.record(f"{INVOICE} here")
    desk.record(f"{INVOICE} elsewhere", project="ffffffffffffffff")
    desk.step("session start")
    shown = [event.snippet for event in desk.step("prompt", prompt=QUESTION).events]
    assert f"{INVOICE} here" in shown


def test_digest_and_answer_together_fit_what_editors_take(desk: Desk) -> None:
    for number in range(60):
        desk.record(f"{INVOICE} {number} " + f"totals-{number} " * 300, f"s{number % 6}")
    text = desk.step("prompt", prompt=QUESTION).text
    assert text.count("End of recorded data.") == 2
    assert size_of(text).characters <= CHARACTERS_MAX


@pytest.mark.parametrize("session", [None, "", "x" * 200])
def test_without_a_session_nothing_is_told(desk: Desk, session: str | None) -> None:
    desk.record(INVOICE)
    assert desk.step("prompt", session, prompt=QUESTION).text == ""
    assert desk.step("before compaction", session).text == ""


@pytest.mark.parametrize("prompt", ["", "  \n", "\ud800", "\0", "x" * 300_000])
def test_any_prompt_is_borne(desk: Desk, prompt: str) -> None:
    desk.record(INVOICE)
    desk.step("prompt", prompt=prompt)


@pytest.mark.parametrize("damage", [b"", b"x", b"lmsessn1" + b"\0" * 40])
def test_damaged_states_start_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "sessions"
    states = SessionStates(path, KEY)
    states.change("s", lambda state: SessionState(5, ""))
    assert SessionStates(path, KEY).of("s") == SessionState(5, "")
    assert SessionStates(path, b"x" * 32).of("s") == SessionState()
    path.write_bytes(damage)
    again = SessionStates(path, KEY)
    assert again.of("s") == SessionState()
    again.change("s", lambda state: SessionState(6, ""))
    assert SessionStates(path, KEY).of("s").lost_ms == 6


def test_states_of_sessions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localmem_node.session_states.SESSIONS_MAX", 3)
    states = SessionStates(tmp_path / "s", KEY)
    for number in range(5):
        states.change(f"{number}", lambda state: SessionState(NOW_MS, ""))
    assert [states.of(f"{number}").lost_ms for number in range(5)] == [0, 0, NOW_MS, NOW_MS, NOW_MS]
