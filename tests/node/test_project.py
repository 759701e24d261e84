"""Project ids: clones share one, namesakes do not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from localmem_node.project import normalise_remote, project_id, project_of_remote, remote_url

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


def test_rewritten_urls_are_asked_of_git(tmp_path: Path) -> None:
    path = tmp_path / "r"
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    for key, value in (("remote.origin.url", "gh:psf/requests"),
                       ("url.https://github.com/.insteadOf", "gh:")):  # fmt: skip
        subprocess.run(["git", "-C", str(path), "config", key, value], check=True)
    assert project_id(path) == project_of_remote(SAME[0])
