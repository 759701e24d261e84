"""Which project a session works in: asked with every event, and never out of date for long."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from localmem_node import projects as module
from localmem_node.project import project_of_remote
from localmem_node.projects import Projects
from support.git_repository import Repository
from support.node import StandingClock

REMOTE = "https://example.org/team/app"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "app" / "src").mkdir(parents=True)
    repository = Repository(tmp_path / "app")
    repository.commit("begin")
    return repository


def test_a_folder_is_looked_up_once(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    run = subprocess.run

    def counted(*arguments: object, **more: object) -> object:
        asked.append(arguments)
        return run(*arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", counted)
    clock = StandingClock()
    projects = Projects(clock)
    found = projects.of(str(repository.path))
    assert found is not None
    clock.ms += int(1000 * module.KEPT_S) + 1
    assert projects.of(str(repository.path / "src")) is found
    assert projects.of(str(repository.path / "src" / "not there")) is found
    assert len(asked) == 1


def test_a_remote_that_is_added_is_seen_at_once(repository: Repository) -> None:
    projects = Projects(StandingClock())
    before = projects.of(str(repository.path))
    assert before is not None
    repository.git("remote", "add", "origin", REMOTE)
    after = projects.of(str(repository.path))
    assert after is not None
    assert after.ids == (project_of_remote(REMOTE), *before.ids)


def test_a_first_commit_is_seen_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.mkdir()
    repository, clock = Repository(path), StandingClock()
    projects = Projects(clock)
    before = projects.of(str(path))
    repository.commit("begin")
    clock.ms += int(1000 * module.KEPT_S) + 1
    after = projects.of(str(path))
    assert before is not None
    assert after is not None
    assert after.ids[1:] == before.ids


@pytest.mark.parametrize("folder", [None, "", "relative", "/", "/\0", "/not/there", "C:/work"])
def test_elsewhere_there_is_no_project(folder: str | None) -> None:
    assert Projects(StandingClock()).of(folder) is None


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROJECTS_MAX", 2)
    projects = Projects(StandingClock())
    found = []
    for name in "abc":
        (tmp_path / name / ".git").mkdir(parents=True)
        found.append(projects.of(str(tmp_path / name)))
    assert projects.of(str(tmp_path / "c")) is found[2]
    assert projects.of(str(tmp_path / "a")) is not found[0]
    assert projects.of(str(tmp_path / "a")) == found[0]
