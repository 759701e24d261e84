"""Texts of references in real checkouts: found where they may be read, and nowhere else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from localmem_node import git_objects
from localmem_node.locating import FILE_BYTES_MAX
from localmem_node.projects import Projects
from localmem_node.sync.checkouts import BUSY_S, SILENT_S, VERSIONS_MAX, Checkouts, PoolTexts
from localmem_node.work_trees import WorkTrees
from localmem_protocol.envelope import PoolKey
from localmem_protocol.events import Event
from localmem_protocol.references import Resolution, refer, resolve
from support.events import event
from support.git_repository import Repository
from support.served_hub import HandClock

KEY = PoolKey("ab" * 16, 1, bytes(32)).reference_key()
URL = "https://git.example.org/team/work.git"


class Machine:
    """A checkout of the project, and what a daemon there knows of it."""

    def __init__(self, folder: Path, *, origin: Repository | None = None) -> None:
        folder.mkdir(parents=True)
        self.clock = HandClock()
        self.state = folder / "state"
        if origin is None:
            self.repository = Repository(_made(folder / "work"))
        else:
            self.repository = self._clone(folder, origin)
        self.repository.git("remote", "add", "origin", URL)
        self.open()

    def open(self) -> None:
        self.trees = WorkTrees(self.state / "checkouts.json", Projects(self.clock))
        self.checkouts = Checkouts(self.trees, self.clock)

    @property
    def root(self) -> Path:
        return self.repository.path

    def work(self, folder: str = ".") -> str:
        """A session works there; the id of the project."""
        path = str(self.root / folder)
        self.trees.see(path)
        found = Projects(self.clock).of(path)
        assert found is not None
        return found.id

    def finds(self, *events: Event) -> Resolution:
        references = [made for one in events if (made := refer(one, KEY))]
        assert len(references) == len(events)
        return resolve(references, self.checkouts, KEY)

    def shares(self, *events: Event) -> set[int]:
        """The sequences of those that would travel as references."""
        shared = PoolTexts(self.checkouts, references=True).shared(events)
        return {one.sequence for one in events if one.id in shared}

    @staticmethod
    def _clone(folder: Path, origin: Repository) -> Repository:
        path = folder / "another" / "place"
        path.parent.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(origin.path), str(path)], check=True)
        cloned = Repository(path)
        cloned.git("remote", "remove", "origin")
        return cloned


@pytest.fixture
def laptop(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "laptop")


def at(path: str, first: int, last: int, text: str, project: str, number: int = 1) -> Event:
    return event(number, filePath=path, selectionRange=[first, last], snippet=text, project=project)


FILES: dict[str, str | bytes] = {
    "src/plain.py": "one\ntwo\n    three\nfour\n",
    "src/ä/\N{SNOWMAN}.py": "grün\nblau\n",
    "dos.txt": b"first\r\nsecond\r\nthird\r\n",
    "raw.bin": b"one\0two\nthree\n",
    "latin.txt": "grün\n".encode("latin-1"),
    "large.txt": b"x\n" * FILE_BYTES_MAX,
}


def test_what_is_committed_goes_by_reference_and_is_found_in_another_clone_elsewhere(
    tmp_path: Path, laptop: Machine
) -> None:
    laptop.repository.commit("begin", FILES)
    desk = Machine(tmp_path / "desk", origin=laptop.repository)
    project = laptop.work("src")
    assert desk.work() == project
    committed = [
        at("src/plain.py", 1, 2, "one\ntwo", project, 1),
        at("src/plain.py", 3, 3, "three", project, 2),  # without its indent, as editors tell it
        at("src/plain.py", 1, 4, "one\ntwo\n    three\nfour\n", project, 3),
        at("src/ä/\N{SNOWMAN}.py", 2, 2, "blau", project, 4),
        at("dos.txt", 1, 2, "first\nsecond", project, 5),
        at("dos.txt", 2, 3, "second\r\nthird\r\n", project, 6),
    ]
    assert laptop.shares(*committed) == {1, 2, 3, 4, 5, 6}
    assert sorted(one.sequence for one in desk.finds(*committed).events) == [1, 2, 3, 4, 5, 6]


def test_whatever_is_not_in_a_commit_at_its_place_travels_whole(laptop: Machine) -> None:
    laptop.repository.commit("begin", FILES | {"gone.py": "was here\n", "moved.py": "x\n"})
    os.symlink("src/plain.py", laptop.root / "link.py")
    os.symlink("src", laptop.root / "folder")
    laptop.repository.commit("links")
    laptop.repository.git("rm", "--quiet", "gone.py")
    laptop.repository.commit("without it")
    laptop.repository.write("staged.py", "staged\n")
    laptop.repository.git("add", "staged.py")
    laptop.repository.write("src/plain.py", "one\ntwo, changed\n")
    laptop.repository.write(".gitignore", "secret\n")
    laptop.repository.write("secret", "key\n")
    project = laptop.work()
    whole = [
        at("src/plain.py", 2, 2, "two, changed", project, 1),
        at("staged.py", 1, 1, "staged", project, 2),
        at("gone.py", 1, 1, "was here", project, 3),
        at("src/plain.py", 2, 2, "one", project, 4),  # other lines
        at("src/plain.py", 4, 9, "four", project, 5),  # lines that there are not
        at("link.py", 1, 1, "one", project, 6),
        at("folder/plain.py", 1, 1, "one", project, 7),
        at("raw.bin", 2, 2, "three", project, 8),
        at("latin.txt", 1, 1, "grün", project, 9),
        at("large.txt", 1, 1, "x", project, 10),
        at("secret", 1, 1, "key", project, 11),
        at("src/../src/plain.py", 1, 1, "one", project, 12),
        at(str(laptop.root / "src/plain.py"), 1, 1, "one", project, 13),
        at("src/plain.py", 1, 1, "one", "0" * 16, 14),
        event(15, kind="prompt", filePath=None, selectionRange=None, project=project),
    ]
    assert laptop.shares(*whole) == set()
    good = at("src/plain.py", 1, 1, "one", project, 16)
    assert laptop.shares(*whole, good) == {16}
    assert PoolTexts(laptop.checkouts, references=False).shared([good]) == ()


def test_a_repository_without_a_commit_and_a_removed_one_share_nothing(laptop: Machine) -> None:
    laptop.repository.write("new.py", "new\n")
    project = laptop.work()
    assert laptop.shares(at("new.py", 1, 1, "new", project)) == set()
    laptop.repository.commit("begin")
    assert laptop.shares(at("new.py", 1, 1, "new", project)) == {1}
    (laptop.root / ".git").rename(laptop.root / "git")
    assert laptop.shares(at("new.py", 1, 1, "new", project)) == set()


def test_texts_are_found_in_the_work_tree_the_index_other_branches_and_the_past(
    laptop: Machine,
) -> None:
    repository = laptop.repository
    repository.commit("begin", {"a.py": "first\n", "old.py": "under another name\n"})
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit("beside", {"a.py": "on a branch\n"})
    repository.git("checkout", "--quiet", "main")
    repository.commit("second", {"a.py": "second\n"})
    repository.git("mv", "old.py", "new.py")
    repository.commit("moved")
    repository.write("a.py", "in the index\n")
    repository.git("add", "a.py")
    repository.write("a.py", "in the work tree\n")
    project = laptop.work()
    here = ["in the work tree", "in the index", "second", "on a branch", "first"]
    events = [at("a.py", 1, 1, text, project, n) for n, text in enumerate(here, start=1)]
    events.append(at("old.py", 1, 1, "under another name", project, 9))
    lost = at("a.py", 1, 1, "nowhere", project, 10)
    resolution = laptop.finds(*events, lost)
    assert {one.sequence for one in resolution.events} == {1, 2, 3, 4, 5, 9}
    assert [one.sequence for one in resolution.unresolved] == [10]


def test_so_many_versions_are_looked_into_and_no_more(laptop: Machine) -> None:
    for number in range(VERSIONS_MAX + 3):
        laptop.repository.commit("again", {"a.py": f"version {number}\n"})
    project = laptop.work()
    newest = range(3, VERSIONS_MAX + 3)
    events = [at("a.py", 1, 1, f"version {n}", project, n + 1) for n in range(VERSIONS_MAX + 3)]
    found = {one.sequence - 1 for one in laptop.finds(*events).events}
    assert found == {*newest}


def test_no_path_of_a_stranger_leads_out_of_a_checkout_or_to_what_git_does_not_track(
    tmp_path: Path, laptop: Machine
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("outside\n")
    laptop.repository.commit("begin", {"folder/file": "inside\n", "file": "a file\n"})
    for name in ("folder/file", "file"):
        (laptop.root / name).unlink()
    (laptop.root / "folder").rmdir()
    os.symlink(tmp_path / "outside", laptop.root / "folder")
    os.symlink(tmp_path / "outside/file", laptop.root / "file")
    laptop.repository.write("untracked", "untracked\n")
    laptop.repository.write(".git/config.more", "of git\n")
    project = laptop.work()
    for path in (
        "folder/file",
        "file",
        "../../outside/file",
        "folder/../../../outside/file",
        str(tmp_path / "outside/file"),
        "./folder/file",
        "folder//file",
        "-file",
        ":(top)file",
    ):
        assert laptop.finds(at(path, 1, 1, "outside", project)).events == (), path
    assert not git_objects.is_inside("file\nHEAD:file")
    assert not laptop.finds(at("untracked", 1, 1, "untracked", project)).events
    assert not laptop.finds(at(".git/config.more", 1, 1, "of git", project)).events
    assert laptop.finds(at("file", 1, 1, "a file", project)).events  # in HEAD it still is


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(laptop: Machine) -> None:
    laptop.repository.commit("begin", {"a.py": "text\n"})
    (laptop.root / "a.py").unlink()
    os.mkfifo(laptop.root / "a.py")
    assert laptop.finds(at("a.py", 1, 1, "text", laptop.work())).events


def test_a_submodule_is_a_project_of_its_own(tmp_path: Path, laptop: Machine) -> None:
    inner = Repository(_made(tmp_path / "inner"))
    inner.commit("begin", {"a.py": "of the inner one\n"})
    laptop.repository.git(
        "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(inner.path), "sub"
    )
    laptop.repository.commit("with a submodule")
    project = laptop.work()
    one = at("sub/a.py", 1, 1, "of the inner one", project)
    assert laptop.shares(one) == set()
    assert not laptop.finds(one).events


def test_where_projects_are_is_remembered_and_looked_at_again(
    laptop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.repository.commit("begin", {"a.py": "text\n"})
    one = at("a.py", 1, 1, "text", laptop.work())
    assert laptop.finds(one).events
    laptop.open()  # another process
    assert laptop.finds(one).events
    assert (laptop.state / "checkouts.json").stat().st_mode & 0o777 == 0o600
    laptop.repository.git("remote", "set-url", "origin", "https://git.example.org/another.git")
    laptop.open()
    assert not laptop.finds(one).events
    (laptop.state / "checkouts.json").write_text("[damaged")
    laptop.open()
    assert not laptop.finds(one).events


def test_git_that_does_not_answer_is_not_asked_for_a_while(
    laptop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.repository.commit("begin", {"a.py": "text\n"})
    one = at("a.py", 1, 1, "text", laptop.work())
    laptop.trees.roots(one.project or "")
    asked: list[Any] = []
    run = subprocess.run

    def slow(command: Any, **options: Any) -> Any:
        asked.append(command)
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", slow)
    assert not laptop.finds(one, one).events
    assert laptop.shares(one) == set()
    assert len(asked) == 1
    monkeypatch.setattr(subprocess, "run", run)
    laptop.clock.ms += int(1000 * SILENT_S) + 1
    assert laptop.finds(one).events


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_so_long_is_looked_and_no_longer_however_many_references_come(
    laptop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.repository.commit("begin", {"a.py": "text\n"})
    project = laptop.work()
    run, asked = subprocess.run, 0

    def steady(command: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        laptop.clock.ms += 200
        return run(command, **options)

    laptop.trees.roots(project)
    monkeypatch.setattr(subprocess, "run", steady)
    unknown = [at(f"{number}.py", 1, 1, "elsewhere", project, number) for number in range(1, 200)]
    laptop.finds(*unknown)
    assert asked * 0.2 < 2 * BUSY_S
    laptop.clock.ms += int(1000 * SILENT_S) + 1
    assert laptop.finds(at("a.py", 1, 1, "text", project)).events


def test_who_may_ask_looks_only_into_what_it_shares(laptop: Machine) -> None:
    laptop.repository.commit("begin", {"a.py": "text\n"})
    project = laptop.work()
    reference = refer(at("a.py", 1, 1, "text", project), KEY)
    assert reference is not None
    mine = PoolTexts(laptop.checkouts, references=False, covers=lambda one: one != project)
    assert list(mine.texts(reference)) == []
    assert list(mine.anywhere().texts(reference)) == ["text", "text\n"]
