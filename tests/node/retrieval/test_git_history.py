from __future__ import annotations

import os
from pathlib import Path

import pytest

from localmem_node.errors import GitMissing, HistoryError, NoCommits, NotARepository
from localmem_node.git_history import (
    HUNKS_PER_COMMIT_MAX,
    SNIPPET_CHARACTERS_MAX,
    Hunk,
    Place,
    cleaned_subject,
    read_hunks,
    recent_hunks,
)
from support.git_repository import BASE_SECONDS, Repository


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    # What git reads of the person who runs the tests is not part of them.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "project"
    folder.mkdir()
    return Repository(folder)


def _hunks(repository: Repository) -> list[Hunk]:
    return recent_hunks(repository.path, 1000)


def _lines(first: int, last: int) -> str:
    return "".join(f"line {number}\n" for number in range(first, last + 1))


def test_a_hunk_is_an_edit_at_the_lines_it_added(repository: Repository) -> None:
    repository.commit("Begin", {"app.py": _lines(1, 20)})
    changed = _lines(1, 10) + "new one\nnew two\n" + _lines(11, 20)
    repository.commit("Add two lines", {"app.py": changed})
    hunk = recent_hunks(repository.path, 1, project="abc")[0]
    assert hunk.subject == "Add two lines"
    assert hunk.commit == repository.git("rev-parse", "HEAD").strip()
    draft = hunk.draft
    assert draft.kind == "edit"
    assert draft.file_path == "app.py"
    assert draft.selection_range == (11, 12)
    assert draft.snippet.split("\n")[-2:] == ["new one", "new two"]
    assert draft.timestamp == (BASE_SECONDS + 60) * 1000
    assert (draft.tool, draft.project) == ("git", "abc")


def test_a_hunk_knows_the_lines_that_were_there_before_it(repository: Repository) -> None:
    repository.commit("Begin", {"old.py": _lines(1, 20)})
    repository.git("mv", "old.py", "new.py")
    changed = _lines(1, 9) + "other\n" + _lines(11, 20)
    repository.commit("Move and change a line", {"new.py": changed})
    begun, moved = _hunks(repository)
    assert begun.before is None
    assert moved.before == Place("old.py", 7, 13)


def test_the_enclosing_symbol_comes_before_the_added_lines(repository: Repository) -> None:
    body = "def handle(request):\n" + "".join(f"    step{n}()\n" for n in range(12))
    repository.commit("Begin", {"app.py": body})
    repository.commit("More", {"app.py": body + "    finish()\n"})
    assert _hunks(repository)[-1].draft.snippet == "@@ def handle(request):\n    finish()"


def test_hunks_come_oldest_first_and_the_newest_are_kept(repository: Repository) -> None:
    for number in range(5):
        repository.commit(f"Commit {number}", {f"file{number}.py": f"value = {number}\n"})
    assert [hunk.subject for hunk in _hunks(repository)] == [f"Commit {n}" for n in range(5)]
    assert [hunk.subject for hunk in recent_hunks(repository.path, 2)] == ["Commit 3", "Commit 4"]


def test_some_hunks_of_a_large_commit_stand_for_it_when_that_is_asked_for(
    repository: Repository,
) -> None:
    files: dict[str, str | bytes] = {f"file{number}.py": "value = 1\n" for number in range(40)}
    repository.commit("Import", files)
    repository.commit("Edit", {"app.py": "value = 2\n"})
    assert [hunk.subject for hunk in _hunks(repository)] == ["Edit"]
    some = recent_hunks(repository.path, 1000, taken_per_commit=3)
    assert [hunk.subject for hunk in some] == ["Import"] * 3 + ["Edit"]


def test_reading_goes_commit_by_commit_from_the_newest(repository: Repository) -> None:
    repository.commit("One", {"a.py": "a = 1\n", "b.py": "b = 1\n"})
    repository.commit("Two", {"c.py": "c = 1\n"})
    commits = list(read_hunks(repository.path))
    assert [[hunk.draft.file_path for hunk in hunks] for hunks in commits] == [
        ["c.py"],
        ["a.py", "b.py"],
    ]
    assert len(list(read_hunks(repository.path, commits=1))) == 1


def test_a_reader_may_stop_early(repository: Repository) -> None:
    for number in range(3):
        repository.commit(f"Commit {number}", {"a.py": f"value = {number}\n" * 5000})
    reading = read_hunks(repository.path)
    assert next(reading)[0].subject == "Commit 2"
    reading.close()


def test_merges_deletions_and_pure_renames_are_no_edits(repository: Repository) -> None:
    repository.commit("Begin", {"a.py": _lines(1, 30), "gone.py": "x = 1\n"})
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit("Side", {"side.py": "side = 1\n"})
    repository.git("checkout", "--quiet", "main")
    repository.commit("Main", {"main.py": "main = 1\n"})
    repository.git("merge", "--quiet", "--no-ff", "--message", "Merge side", "side")
    (repository.path / "gone.py").unlink()
    repository.git("mv", "a.py", "b.py")
    repository.commit("Move and delete")
    assert sorted(hunk.subject for hunk in _hunks(repository)) == ["Begin", "Begin", "Main", "Side"]


def test_binary_generated_and_vendored_files_are_left_out(repository: Repository) -> None:
    repository.commit(
        "Everything",
        {
            "image.bin": b"\x00\x01\x02" * 100,
            "package-lock.json": "{}\n",
            "poetry.lock": "x = 1\n",
            "go.sum": "x\n",
            "web/app.min.js": "x\n",
            "api_pb2.py": "x = 1\n",
            "vendor/lib/a.go": "package a\n",
            "node_modules/b/b.js": "b\n",
            "clock.py": "tick = 1\n",
        },
    )
    assert [hunk.draft.file_path for hunk in _hunks(repository)] == ["clock.py"]


def test_a_commit_of_too_many_hunks_is_left_out(repository: Repository) -> None:
    many = HUNKS_PER_COMMIT_MAX + 1
    repository.commit("Import", {f"file{n}.py": f"value = {n}\n" for n in range(many)})
    repository.commit("Small", {"small.py": "x = 1\n"})
    assert [hunk.subject for hunk in _hunks(repository)] == ["Small"]


def test_a_hunk_of_blank_lines_is_left_out(repository: Repository) -> None:
    repository.commit("Begin", {"a.py": _lines(1, 20)})
    repository.commit("Space", {"a.py": _lines(1, 10) + "\n  \n" + _lines(11, 20)})
    assert [hunk.subject for hunk in _hunks(repository)] == ["Begin"]


def test_a_long_hunk_is_cut_at_a_line_and_its_range_is_not(repository: Repository) -> None:
    repository.commit("Much", {"a.py": _lines(1, 500), "b.js": "x" * 100_000 + "\nend\n"})
    much, minified = (hunk.draft for hunk in _hunks(repository))
    assert much.selection_range == (1, 500)
    assert SNIPPET_CHARACTERS_MAX - 10 < len(much.snippet) <= SNIPPET_CHARACTERS_MAX
    assert much.snippet == _lines(1, much.snippet.count("\n") + 1).rstrip("\n")
    assert minified.snippet == "x" * SNIPPET_CHARACTERS_MAX
    assert minified.selection_range == (1, 2)


def test_bytes_that_are_not_utf8_are_replaced(repository: Repository) -> None:
    repository.commit("Latin", {"latin.txt": b"caf\xe9 cr\xe8me\n"})
    assert _hunks(repository)[0].draft.snippet == "caf\ufffd cr\ufffdme"


def test_carriage_returns_and_a_missing_last_line_feed_are_no_content(
    repository: Repository,
) -> None:
    repository.commit("Windows", {"a.txt": "one\r\ntwo"})
    repository.commit("More", {"a.txt": "one\r\ntwo\r\nthree"})
    assert [hunk.draft.snippet for hunk in _hunks(repository)] == ["one\ntwo", "two\nthree"]


def test_content_that_looks_like_a_diff_is_content(repository: Repository) -> None:
    trap = "++ b/other.py\n@@ -1,5 +1,5 @@\n-- a\n\\ No\ndiff --git a/x b/x\n"
    repository.commit("Trap", {"patch.txt": trap, "next.py": "after = 1\n"})
    after, trapped = (hunk.draft for hunk in _hunks(repository))
    assert after.file_path == "next.py"
    assert (trapped.file_path, trapped.snippet) == ("patch.txt", trap.rstrip("\n"))


@pytest.mark.parametrize("name", ["with space.py", "größe.py", 'quo"te.py', "back\\slash.py"])
def test_paths_come_as_they_are(repository: Repository, name: str) -> None:
    repository.commit("Odd", {name: "x = 1\n"})
    assert [hunk.draft.file_path for hunk in _hunks(repository)] == [name]


def test_a_path_that_no_event_may_have_is_left_out(repository: Repository) -> None:
    repository.commit("Odd", {"tab\there.py": "x = 1\n", "plain.py": "x = 1\n"})
    assert [hunk.draft.file_path for hunk in _hunks(repository)] == ["plain.py"]


def test_settings_of_the_user_change_nothing(repository: Repository) -> None:
    repository.commit("Begin", {"a.py": _lines(1, 20)})
    repository.commit("Change", {"a.py": _lines(1, 10) + "new\n" + _lines(11, 20)})
    repository.git("mv", "a.py", "größe.py")
    repository.commit("Rename and change", {"größe.py": _lines(0, 10) + "new\n" + _lines(11, 20)})
    repository.git("checkout", "--quiet", "-b", "side", "HEAD~1")
    repository.commit("Side", {"side.py": "side = 1\n"})
    repository.git("merge", "--quiet", "--no-ff", "--message", "Merge", "main")
    plain = _hunks(repository)
    assert len(plain) == 4
    program = repository.path / "program"
    program.write_text("#!/bin/sh\ntouch ran\n")
    program.chmod(0o700)
    for name, value in {
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.context": "0",
        "diff.renames": "false",
        "log.diffMerges": "separate",
        "diff.external": str(program),
        "color.ui": "always",
        "core.quotePath": "true",
        "log.showSignature": "true",
        "log.showRoot": "false",
        "format.pretty": "fuller",
        "diff.suppressBlankEmpty": "true",
        "diff.programs.textconv": str(program),
    }.items():
        repository.git("config", name, value)
    (repository.path / ".gitattributes").write_text("*.py diff=programs\n")
    assert _hunks(repository) == plain
    assert not (repository.path / "ran").exists()


def test_variables_that_tie_git_to_another_repository_are_ignored(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("Mine", {"a.py": "x = 1\n"})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert [hunk.subject for hunk in _hunks(repository)] == ["Mine"]


def test_a_bare_repository_can_be_read(repository: Repository, tmp_path: Path) -> None:
    repository.commit("Mine", {"a.py": "x = 1\n"})
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    assert [hunk.subject for hunk in recent_hunks(tmp_path / "bare.git", 5)] == ["Mine"]


def test_a_folder_that_is_no_repository_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(NotARepository, match=str(tmp_path)):
        recent_hunks(tmp_path, 1)
    with pytest.raises(NotARepository, match="not a directory"):
        recent_hunks(tmp_path / "missing", 1)


def test_a_repository_without_commits_is_named(repository: Repository) -> None:
    with pytest.raises(NoCommits, match="no commits yet"):
        _hunks(repository)


def test_a_damaged_repository_is_an_error_with_the_reason_of_git(repository: Repository) -> None:
    repository.commit("One", {"a.py": "x = 1\n"})
    blob = repository.git("rev-parse", "HEAD:a.py").strip()
    (repository.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(HistoryError, match="git log failed"):
        _hunks(repository)


def test_git_missing_is_named(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GitMissing, match="not installed"):
        _hunks(repository)


@pytest.mark.parametrize(
    ("subject", "cleaned"),
    [
        ("Add a timeout", "Add a timeout"),
        ("fix: close the socket", "close the socket"),
        ("feat(api)!: add cursors", "add cursors"),
        ("Fix the header parser (#123)", "Fix the header parser"),
        ("Fix the header parser (fixes #9) (#10)", "Fix the header parser"),
        ("#1066 make it accessible (#1135)", "make it accessible"),
        ("[3.11] [docs] chore: tidy up.", "tidy up"),
        ("Fixes #12: fix(core): do not hang", "do not hang"),
        ("Fix: (#1)", ""),
        ("HTTP: say no", "HTTP: say no"),
        ("", ""),
    ],
)
def test_a_subject_is_cleaned_of_all_but_what_was_done(subject: str, cleaned: str) -> None:
    assert cleaned_subject(subject) == cleaned
