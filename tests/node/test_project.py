"""Project ids: clones share one, namesakes do not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from localmem_node.project import (
    Project,
    find_root,
    normalise_remote,
    project_at,
    project_id,
    project_of_remote,
    remote_url,
)
from support.git_repository import Repository

SAME = [
    "https://github.com/psf/requests.git",
    "https://github.com/psf/requests",
    "https://github.com/PSF/Requests/",
    "https://user:token@github.com/psf/requests.git",
    "https://github.com:443/psf/requests.git",
    "git@github.com:psf/requests.git",
    "github.com:psf/requests",
    "ssh://git@github.com/psf/requests.git",
    "ssh://git@github.com:22/psf/requests",
    "git://github.com/psf/requests.git",
    "git+ssh://git@GitHub.com/psf/requests.git",
]


@pytest.mark.parametrize("url", SAME)
def test_every_form_of_a_remote_is_the_same_project(url: str) -> None:
    assert normalise_remote(url) == "github.com/psf/requests"


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://git.example.com:8443/a/b.git", "git.example.com:8443/a/b"),
        ("https://git.example.com/A/b.git", "git.example.com/A/b"),
        ("ssh://git@git.example.com:2222/a/b", "git.example.com:2222/a/b"),
        ("git@[::1]:a/b.git", "[::1]/a/b"),
    ],
)
def test_other_hosts_ports_and_letters_are_other_projects(url: str, normal: str) -> None:
    assert normalise_remote(url) == normal


@pytest.mark.parametrize(
    "url",
    ["/srv/git/a.git", "../a", "file:///srv/a.git", "C:\\code\\a", "", "https:///a", "http://[x/"],
)
def test_a_path_is_no_remote(url: str) -> None:
    assert normalise_remote(url) is None


def repository(path: Path, config: str) -> Path:
    (path / ".git").mkdir(parents=True)
    (path / ".git" / "config").write_text(config)
    return path


def test_clones_share_an_id_from_any_folder_in_them(tmp_path: Path) -> None:
    config = '[core]\n\tbare = false\n[remote "origin"]\n\turl = {}\n\tfetch = +refs\n'
    one = repository(tmp_path / "one", config.format("git@github.com:psf/requests.git"))
    two = repository(tmp_path / "two", config.format("https://github.com/psf/requests"))
    (two / "src" / "deep").mkdir(parents=True)
    found = project_id(two / "src" / "deep" / "module.py")
    assert found == project_id(one) == project_of_remote(SAME[0])
    assert found is not None
    assert len(found) == 16
    other = repository(tmp_path / "three", config.format("https://github.com/other/requests"))
    assert project_id(other) != found


def test_repositories_without_a_remote_are_told_apart_by_place(tmp_path: Path) -> None:
    one, two = repository(tmp_path / "a" / "app", ""), repository(tmp_path / "b" / "app", "")
    assert project_id(one) not in (None, project_id(two))
    assert project_id(one / "x") == project_id(one)


def test_outside_of_any_repository_there_is_no_project(tmp_path: Path) -> None:
    assert project_id(tmp_path) is None


def test_origin_goes_before_other_remotes_and_comments_are_not_part_of_it(tmp_path: Path) -> None:
    config = (
        '[remote "fork"]\n\turl = https://a.example/fork\n'
        '[remote "origin"]\n\turl = "https://a.example/origin" ; mine\n[branch "main"]\n\turl = no\n'
    )
    assert remote_url(repository(tmp_path / "r", config)) == "https://a.example/origin"


def test_a_worktree_belongs_to_the_project_of_its_repository(tmp_path: Path) -> None:
    main = tmp_path / "main"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-C", str(main)]
    subprocess.run(["git", "init", "-q", str(main)], check=True)
    subprocess.run([*git, "remote", "add", "origin", SAME[0]], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    subprocess.run([*git, "worktree", "add", "-q", str(tmp_path / "side")], check=True)
    assert project_id(tmp_path / "side") == project_of_remote(SAME[0])


def made(path: Path, subject: str) -> Repository:
    path.mkdir(parents=True)
    repository = Repository(path)
    repository.commit(subject, {"a.txt": subject})
    return repository


def test_a_repository_without_a_remote_stays_what_it_is_when_its_folder_is_moved(
    tmp_path: Path,
) -> None:
    repository = made(tmp_path / "before", "begin")
    known = project_at(tmp_path / "before")
    for _ in range(2):
        repository.commit("more")
    (tmp_path / "before").rename(tmp_path / "after")
    moved = project_at(tmp_path / "after")
    assert moved.id == known.id == project_id(tmp_path / "after" / "a.txt")
    assert moved.ids[1:] != known.ids[1:]
    assert made(tmp_path / "other" / "before", "another").path.exists()
    assert project_id(tmp_path / "other" / "before") not in (None, known.id)


def test_a_project_is_known_by_what_it_was_before_too(tmp_path: Path) -> None:
    path = tmp_path / "app"
    path.mkdir()
    repository = Repository(path)
    place = project_at(path)
    assert len(place.ids) == 1
    repository.commit("begin")
    commit = project_at(path)
    assert commit.ids[1:] == place.ids
    repository.git("remote", "add", "origin", SAME[0])
    remote = project_at(path)
    assert remote.ids == (project_of_remote(SAME[0]), *commit.ids)


def test_a_clone_of_a_local_folder_is_the_same_project(tmp_path: Path) -> None:
    made(tmp_path / "one", "begin")
    subprocess.run(["git", "clone", "-q", str(tmp_path / "one"), str(tmp_path / "two")], check=True)
    assert project_id(tmp_path / "two") == project_id(tmp_path / "one")


def test_a_fork_is_known_by_its_own_origin(tmp_path: Path) -> None:
    repository = made(tmp_path / "fork", "begin")
    repository.git("remote", "add", "upstream", "https://github.com/psf/requests")
    repository.git("remote", "add", "origin", "https://github.com/someone/requests")
    assert project_id(tmp_path / "fork") == project_of_remote("git@github.com:someone/requests")


def test_a_worktree_without_a_remote_belongs_to_its_repository(tmp_path: Path) -> None:
    repository = made(tmp_path / "main", "begin")
    repository.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    main, side = project_at(tmp_path / "main"), project_at(tmp_path / "side")
    assert side.ids == main.ids
    assert side.relative(str(tmp_path / "side" / "src" / "a.py")) == "src/a.py"


def test_a_submodule_is_a_project_of_its_own(tmp_path: Path) -> None:
    made(tmp_path / "library", "library")
    outer = made(tmp_path / "outer", "outer")
    outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add",
              str(tmp_path / "library"), "lib")  # fmt: skip
    inner = tmp_path / "outer" / "lib"
    assert find_root(inner) == inner
    assert project_id(inner) == project_id(tmp_path / "library")
    assert project_id(inner) != project_id(tmp_path / "outer")


def test_paths_of_a_project_begin_at_its_root(tmp_path: Path) -> None:
    root = tmp_path / "app"
    (root / "src").mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    project = Project(str(root), ("0123456789abcdef",))
    for path, stored in (
        (f"{root}/src/a.py", "src/a.py"),
        (f"{root}/./src//a.py", "src/a.py"),
        (f"{root}/src/../b.py", "b.py"),
        (f"{tmp_path}/link/src/a.py", "src/a.py"),
        (f"{root}/gone/deep/a.py", "gone/deep/a.py"),
        ("src/a.py", "src/a.py"),
        (f"{root}", f"{root}"),
        (f"{root}/../other/a.py", f"{root}/../other/a.py"),
        (f"{root}er/a.py", f"{root}er/a.py"),
        ("/etc/hosts", "/etc/hosts"),
        ("C:/code/a.py", "C:/code/a.py"),
    ):
        assert project.relative(path) == stored


def test_rewritten_urls_are_asked_of_git(tmp_path: Path) -> None:
    path = tmp_path / "r"
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    for key, value in (("remote.origin.url", "gh:psf/requests"),
                       ("url.https://github.com/.insteadOf", "gh:")):  # fmt: skip
        subprocess.run(["git", "-C", str(path), "config", key, value], check=True)
    assert project_id(path) == project_of_remote(SAME[0])
