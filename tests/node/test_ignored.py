"""Files that git ignores: what git says, whatever the patterns are and whenever they change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localmem_node.capture import ignored as module
from localmem_node.capture.admission import Admission
from localmem_node.capture.ignored import RACY_MS, IgnoredFiles
from localmem_node.system import SystemClock
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft
from support.events import draft
from support.git_repository import Repository


class LaterClock(SystemClock):
    """The system's clock, so far ahead that nothing was changed just now."""

    ahead_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + 2 * RACY_MS + int(self.ahead_s * 1000)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home, so that nobody's own excludes are in force."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return home


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Repository:
    path = tmp_path / "work"
    path.mkdir()
    repository = Repository(path)
    repository.write(".gitignore", "build/\n*.log\n!keep.log\n/only\n")
    repository.write("a/.gitignore", "!x.log\n*.tmp\n")
    repository.write("tracked.log", "")
    repository.git("add", "--force", "tracked.log", ".gitignore", "a/.gitignore")
    return repository


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The git processes that are started, by their first argument."""
    started: list[str] = []
    original = module._run

    def counted(root: str, arguments: tuple[str, ...], text: str) -> object:
        started.append(arguments[0])
        return original(root, arguments, text)

    monkeypatch.setattr(module, "_run", counted)
    return started


CASES = {
    "build/x.js": True,
    "build/deep/er/x.js": True,
    "a/build/x.js": True,
    "only": True,
    "a/only": False,
    "z.log": True,
    "keep.log": False,
    "a/x.log": False,
    "a/y.log": True,
    "a/b/c.tmp": True,
    "c.tmp": False,
    "tracked.log": False,
    "main.py": False,
    "not/there/yet.log": True,
    ":(top)x.log": True,
    "-n.log": True,
    "a b\nc.log": True,
    "ünï.log": True,
    "a/../z.log": True,
    ".git/config": False,
}


@pytest.mark.parametrize("name", CASES)
def test_what_git_ignores_is_known(repository: Repository, name: str) -> None:
    path = f"{repository.path}/{name}"
    assert (path in IgnoredFiles(SystemClock()).among([path])) is CASES[name]


def test_many_files_are_asked_about_at_once(repository: Repository, processes: list[str]) -> None:
    paths = {f"{repository.path}/{name}": is_ignored for name, is_ignored in CASES.items()}
    found = IgnoredFiles(SystemClock()).among(paths)
    assert found == {path for path, is_ignored in paths.items() if is_ignored}
    assert processes.count("check-ignore") == 1


def test_excludes_of_the_repository_and_of_the_user_count(
    repository: Repository, home: Path
) -> None:
    repository.write(".git/info/exclude", "mine.*\n")
    (home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/everywhere\n")
    (home / "everywhere").write_text("*.swp\n")
    paths = [f"{repository.path}/{name}" for name in ("mine.py", "x.swp", "x.py")]
    assert IgnoredFiles(SystemClock()).among(paths) == set(paths[:2])


def test_an_answer_is_remembered(repository: Repository, processes: list[str]) -> None:
    files = IgnoredFiles(LaterClock())
    paths = [f"{repository.path}/z.log", f"{repository.path}/a/main.py"]
    for _ in range(5):
        assert files.among(paths) == {paths[0]}
    assert processes.count("check-ignore") == 1


def test_what_was_changed_a_moment_ago_is_asked_again(
    repository: Repository, processes: list[str]
) -> None:
    """A second change within the resolution of the file system's clock would leave no trace."""
    files = IgnoredFiles(SystemClock())
    path = f"{repository.path}/z.log"
    files.among([path])
    files.among([path])
    assert processes.count("check-ignore") == 2


@pytest.mark.parametrize("clock", [SystemClock, LaterClock])
def test_a_change_of_what_is_ignored_is_seen_at_once(
    repository: Repository, home: Path, clock: type[SystemClock]
) -> None:
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/everywhere\n")
    files = IgnoredFiles(clock())
    path = f"{repository.path}/a/new.xyz"

    def is_ignored() -> bool:
        return path in files.among([path])

    assert not is_ignored()
    for source in (
        repository.path / ".gitignore",
        repository.path / "a" / ".gitignore",
        repository.path / ".git" / "info" / "exclude",
        home / "everywhere",
    ):
        before = source.read_text() if source.exists() else ""
        source.write_text(f"{before}\n*.xyz\n")
        assert is_ignored(), source
        source.write_text(before)
        assert not is_ignored(), source
    repository.write(".gitignore", "*.xyz\n")
    assert is_ignored()
    repository.write("a/new.xyz", "")
    repository.git("add", "--force", "a/new.xyz")
    assert not is_ignored()
    repository.git("rm", "--quiet", "--cached", "a/new.xyz")
    assert is_ignored()


def test_an_answer_is_asked_again_after_a_while(
    repository: Repository, processes: list[str]
) -> None:
    """So that a setting that nothing here looks at is seen in the end."""
    clock = LaterClock()
    files = IgnoredFiles(clock)
    path = f"{repository.path}/z.log"
    files.among([path])
    clock.ahead_s = module.ANSWER_S + 1
    files.among([path])
    assert processes.count("check-ignore") == 2


def test_work_trees_submodules_and_links_are_seen_as_git_sees_them(
    repository: Repository, tmp_path: Path
) -> None:
    repository.commit("first", {"a.py": "1"})
    repository.git("worktree", "add", "--quiet", "../side", "-b", "side")
    inner = repository.path / "inner"
    inner.mkdir()
    Repository(inner).write(".gitignore", "*.py\n")
    (tmp_path / "link").symlink_to(repository.path)
    (repository.path / "outside").symlink_to(tmp_path)
    ignored = [tmp_path / "side/x.log", inner / "x.py", tmp_path / "link/z.log"]
    other = [
        tmp_path / "side/x.py",
        inner / "x.log",
        tmp_path / "link/z.py",
        repository.path / "outside/z.log",
    ]
    paths = [str(path) for path in (*ignored, *other)]
    assert IgnoredFiles(SystemClock()).among(paths) == set(paths[: len(ignored)])


def test_outside_of_any_work_tree_nothing_is_ignored(tmp_path: Path, home: Path) -> None:
    (tmp_path / ".gitignore").write_text("*\n")
    paths = [str(tmp_path / "x.log"), "/", "/x.log", str(tmp_path / "no" / "such" / "x")]
    assert IgnoredFiles(SystemClock()).among(paths) == set()


def test_without_git_nothing_is_ignored(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    path = f"{repository.path}/z.log"
    assert IgnoredFiles(SystemClock()).among([path]) == set()


def test_a_git_that_hangs_is_waited_for_once(
    repository: Repository,
    tmp_path: Path,
    processes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(module, "GIT_TIMEOUT_S", 0.2)
    clock = LaterClock()
    files = IgnoredFiles(clock)
    path = f"{repository.path}/z.log"
    for _ in range(3):
        assert files.among([path]) == set()
    assert len(processes) == 1
    slow.unlink()
    clock.ahead_s = module.ANSWER_S + 1
    assert files.among([path]) == {path}


def test_one_path_that_git_stops_at_does_not_speak_for_the_others(repository: Repository) -> None:
    inner = repository.path / "inner"
    inner.mkdir()
    Repository(inner).commit("first", {"a.py": "1"})
    repository.git("add", "inner")  # as a submodule
    (inner / ".git").rename(repository.path / "elsewhere")
    paths = [f"{repository.path}/{name}" for name in ("z.log", "inner/a.log", "y.log", "a.py")]
    assert IgnoredFiles(SystemClock()).among(paths) == {paths[0], paths[2]}


def test_a_repository_that_git_refuses_is_said_once_without_a_path(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    repository.write(".git/config", "[core\n")
    files = IgnoredFiles(SystemClock())
    for name in ("z.log", "y.log"):
        assert files.among([f"{repository.path}/{name}", f"{repository.path}/a"]) == set()
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert str(repository.path) not in caplog.text


def test_the_number_of_answers_is_bounded(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWERS_MAX", 10)
    files = IgnoredFiles(LaterClock())
    paths = [f"{repository.path}/{number}.log" for number in range(25)]
    assert files.among(paths) == set(paths)
    assert len(files._answers) <= 10


def test_git_runs_no_program_that_a_repository_names(repository: Repository) -> None:
    repository.write("hook", "#!/bin/sh\ntouch ran\n")
    (repository.path / "hook").chmod(0o755)
    repository.git("config", "core.fsmonitor", f"{repository.path}/hook")
    assert IgnoredFiles(SystemClock()).among([f"{repository.path}/z.log"])
    assert not (repository.path / "ran").exists()


def refused(admission: Admission, offered: Draft, folder: str | None = None) -> str | None:
    [admitted] = admission.admit_all([offered], folder)
    return str(admitted) if isinstance(admitted, EventError) else None


def test_admission_refuses_them_by_absolute_path_and_from_the_callers_folder(
    repository: Repository,
) -> None:
    admission = Admission(ignored=IgnoredFiles(SystemClock()))
    root = str(repository.path)
    reason = "filePath: is ignored by git (capture.skip_ignored)"
    assert refused(admission, draft(filePath=f"{root}/z.log")) == reason
    assert refused(admission, draft(filePath="z.log"), root) == reason
    assert refused(admission, draft(filePath="../z.log"), f"{root}/a")
    assert refused(admission, draft(filePath="z.log"), os.path.dirname(root)) is None
    assert refused(admission, draft(filePath="z.log")) is None
    assert refused(admission, draft(filePath=f"{root}/main.py")) is None
    assert refused(Admission(), draft(filePath=f"{root}/z.log")) is None


def test_nothing_else_of_a_batch_is_lost(repository: Repository) -> None:
    names = ["main.py", "z.log", ".env", "a/x.log"]
    admission = Admission(ignored=IgnoredFiles(SystemClock()))
    drafts = [draft(filePath=name) for name in names]
    admitted = admission.admit_all(
        [*drafts, draft(kind="note", filePath=None, selectionRange=None)], str(repository.path)
    )
    assert [isinstance(one, Draft) for one in admitted] == [True, False, False, True, True]
