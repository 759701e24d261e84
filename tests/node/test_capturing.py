"""From what was told to the store: what fails is let go, what is too old does not push out the new."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localmem_node.capturing import Capturing
from localmem_node.editors.captured import Captured
from localmem_node.engine import Engine
from localmem_node.errors import StoreError
from localmem_node.pausing import Pauses
from localmem_node.project import project_at
from localmem_node.projects import Projects
from localmem_node.seen import Seen
from support.events import draft
from support.git_repository import Repository
from support.node import MIB, NOW_MS, StandingClock, open_node


def told(key: str, **changes: Any) -> Captured:
    return Captured(draft(**{"timestamp": NOW_MS, "session": "s", **changes}), key)


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def engine(tmp_path: Path, clock: StandingClock) -> Iterator[Engine]:
    with_engine = open_node(tmp_path / "store", clock=clock, size=MIB, eviction="fifo")
    yield with_engine
    with_engine.close()


def capturing_of(
    engine: Engine, folder: Path, *, answers: bool = True, denied: tuple[str, ...] = ()
) -> Capturing:
    return Capturing(
        engine,
        Seen(folder / "seen", b"k" * 32),
        Projects(StandingClock()),
        Pauses(folder / "paused.json"),
        answers=answers,
        denied=denied,
    )


def test_an_event_that_could_not_be_stored_may_be_told_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capturing = capturing_of(engine, tmp_path)

    def fail(drafts: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(engine, "record_admitted", fail)
        with pytest.raises(StoreError):
            capturing.take([told("a")], None)
    assert len(capturing.take([told("a")], None).recorded) == 1
    assert capturing.take([told("a")], None).known == 1


def test_an_event_that_is_refused_is_not_known(engine: Engine, tmp_path: Path) -> None:
    capturing = capturing_of(engine, tmp_path)
    batch = [told("a", filePath="/x/.env"), told("b"), told("b"), told("c")]
    taken = capturing.take(batch, None)
    assert [index for index, _ in taken.failed] == [0]
    assert (len(taken.recorded), taken.known) == (2, 1)
    assert len(capturing.take([told("a")], None).recorded) == 1


def test_what_is_older_than_all_that_a_full_store_has_is_not_imported(
    engine: Engine, tmp_path: Path, clock: StandingClock
) -> None:
    capturing = capturing_of(engine, tmp_path)
    old = told("old", timestamp=NOW_MS - 1000)
    assert capturing.take([old], None, imported=True).too_old == 0
    number = 0
    while engine.next_to_leave() is None or not engine.evicted:
        clock.ms += 1000
        number += 1
        text = "".join(f"{number * at:x}" for at in range(1, 3000))
        engine.record([draft(timestamp=clock.ms, snippet=text)])
    older = told("older", timestamp=NOW_MS - 2000)
    assert capturing.take([older], None, imported=True).too_old == 1
    assert capturing.take([told("pinned", timestamp=1, pinned=True)], None, imported=True).recorded
    assert capturing.take([told("new", timestamp=clock.ms)], None, imported=True).recorded
    assert len(capturing.take([older], None).recorded) == 1  # a hook that waited


def test_what_happened_in_a_pause_does_not_come_in_from_a_transcript(
    engine: Engine, tmp_path: Path
) -> None:
    capturing, pauses = capturing_of(engine, tmp_path), Pauses(tmp_path / "paused.json")
    pauses.pause((), "s", NOW_MS)
    pauses.resume((), None, NOW_MS + 10)
    batch = [told(f"{at}", timestamp=NOW_MS + at) for at in (-1, 0, 9, 10)]
    taken = capturing.take(batch, None, imported=True)
    assert (len(taken.recorded), taken.paused) == (2, 2)


@pytest.mark.parametrize(
    ("kind", "tool", "kept"),
    [
        ("answer", "codex", False),
        ("answer", "someone's own", False),
        ("note", "codex", False),
        ("note", "someone's own", True),
        ("prompt", "codex", True),
    ],
)
def test_what_a_model_said_can_be_left_out(
    engine: Engine, tmp_path: Path, kind: str, tool: str, kept: bool
) -> None:
    capturing = capturing_of(engine, tmp_path, answers=False)
    one = told("a", kind=kind, tool=tool, snippet="said", modelResponseHash="0" * 16)
    (event,) = capturing.take([one], None).recorded
    assert (event.snippet == "said") == kept
    assert event.model_response_hash == "0" * 16


def test_an_event_of_another_project_keeps_it(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "app" / ".git").mkdir(parents=True)
    capturing = capturing_of(engine, tmp_path)
    batch = [told("a", project="0123456789abcdef"), told("b", filePath=f"{tmp_path}/app/x/a.py")]
    one, other = capturing.take(batch, str(tmp_path / "app")).recorded
    assert one.project == "0123456789abcdef"
    assert (other.project is not None, other.file_path) == (True, "x/a.py")


def test_a_project_that_is_denied_stays_out_under_whichever_of_its_ids(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    repository = Repository(tmp_path / "app")
    place = project_at(tmp_path / "app").id
    repository.commit("begin")
    capturing = capturing_of(engine, tmp_path, denied=(place,))
    (failure,) = capturing.take([told("a")], str(tmp_path / "app")).failed
    assert failure[1].field == "project"
    assert len(capturing.take([told("a")], str(tmp_path)).recorded) == 1
