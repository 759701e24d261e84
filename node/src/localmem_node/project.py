"""Which project a file belongs to: an id that clones share and namesakes do not.

It is a hash of the git remote `origin`, written in one normal form whatever the transport and without
credentials. A fork is known by its own, a submodule too; a worktree by that of its repository. A
repository without a remote of a network is known by its first commit, and so stays what it is when its
folder is moved or copied; one without a commit by its path, on this device alone. Outside of any
repository there is no project.

So a repository that gets a commit, and later a remote, changes its id: `Project.ids` has the earlier
ones as well.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from localmem_node.git_process import git_environment

ID_BYTES: Final = 8
CONFIG_BYTES_MAX: Final = 1 << 20
GIT_TIMEOUT_S: Final = 5

_SCP = re.compile(
    r"(?:[^@/:]{1,256}@)?(\[[0-9A-Fa-f:]{2,64}\]|[^/:@\[\]]{2,256}):(?!//)(.{1,4096})"
)
_SECTION = re.compile(r'\s*\[\s*([A-Za-z0-9.-]{1,64})(?:\s+"((?:[^"\\]|\\.){0,512})")?\s*\]')
_URL = re.compile(r"\s*url\s*=\s*(.*)", re.IGNORECASE)
_DEFAULT_PORTS: Final = {"ssh": 22, "https": 443, "http": 80, "git": 9418}
_CASELESS_HOSTS: Final = frozenset({"github.com", "gitlab.com", "bitbucket.org"})
_INDIRECT: Final = frozenset({"include", "includeif", "url"})


@dataclass(frozen=True, slots=True)
class Project:
    """A project on this device: its work tree, its id, and those under which it was known before.

    `begun` says that its first commit is known, so that no other id follows from its history.
    """

    root: str
    ids: tuple[str, ...]
    begun: bool = False

    @property
    def id(self) -> str:
        """16 hex digits."""
        return self.ids[0]

    def relative(self, path: str) -> str:
        """A path of this project as it is stored: from its root, with slashes; others as they are."""
        if not os.path.isabs(path):
            return path
        for inside in (path, os.path.join(os.path.realpath(os.path.dirname(path)), _name(path))):
            if inside.startswith(f"{self.root.rstrip('/')}/"):
                below = os.path.normpath(inside[len(self.root.rstrip("/")) + 1 :])
                if not below.startswith(("..", "/")) and below != ".":
                    return below
        return path


def project_id(path: Path) -> str | None:
    """The id of the project that a file or folder is in, 16 hex digits; None outside of any."""
    root = find_root(path)
    return next(_ids(root))[1] if root is not None else None


def project_at(root: Path) -> Project:
    """The project whose work tree has this root, which has its links resolved."""
    found = dict(_ids(root))
    return Project(str(root), tuple(found.values()), "commit" in found)


def _ids(root: Path) -> Iterator[tuple[str, str]]:
    """(what it rests on, id): that of now, and then those from before it had a remote, and before it
    had a commit."""
    remote = remote_url(root)
    if remote and (identity := project_of_remote(remote)):
        yield "remote", identity
    commit = first_commit(root)
    if commit:
        yield "commit", _hash("commit", commit)
    shared = Path(os.path.realpath(git_directory(root)))
    main = shared.parent if shared.name == ".git" else root
    yield "path", _hash("path", str(main))


def project_of_remote(url: str) -> str | None:
    """The id of every clone of a git remote; None for what is no remote of a network."""
    identity = normalise_remote(url)
    return _hash("remote", identity) if identity else None


def is_project_id(text: str) -> bool:
    """Whether text has the form of an id that `project_id` makes."""
    return len(text) == 2 * ID_BYTES and set(text) <= set("0123456789abcdef")


def current_folder() -> str | None:
    """The absolute path that relative ones begin at; None if the folder has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def find_root(path: Path) -> Path | None:
    """The nearest folder at or above `path` that has a `.git`.

    Where nobody may look, or a name is longer than names can be, there is none.
    """
    path = Path(os.path.realpath(path))
    for folder in (path, *path.parents):
        if os.path.exists(folder / ".git"):
            return folder
    return None


def normalise_remote(url: str) -> str | None:
    """`host/path` of a git remote; the same for ssh, https and scp forms. None for a local path."""
    url = url.strip()
    if "://" in url:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return None
        if parts.scheme == "file" or not host:
            return None
        path = unquote(parts.path)
        if port is not None and port != _DEFAULT_PORTS.get(parts.scheme.removeprefix("git+")):
            host = f"{host}:{port}"
    else:
        match = _SCP.fullmatch(url)
        if match is None:
            return None
        host, path = match[1], match[2]
    host = host.lower()
    path = re.sub("/{2,}", "/", path).strip("/").removesuffix(".git").strip("/")
    if host in _CASELESS_HOSTS:
        path = path.lower()
    return f"{host}/{path}" if path else None


def remote_url(root: Path) -> str | None:
    """The URL of the remote `origin`, or else of the only or first one, from `.git/config`.

    git itself is asked only when the file refers to others (`include`, `insteadOf`).
    """
    directory = git_directory(root)
    try:
        with (directory / "config").open("rb") as file:
            text = file.read(CONFIG_BYTES_MAX).decode(errors="replace")
    except OSError:
        return None
    remotes, indirect = _parse_remotes(text)
    if indirect:
        return _ask_git(root, "remote", "get-url", "origin") or remotes.get("origin")
    return remotes.get("origin") or next(iter(remotes.values()), None)


def first_commit(root: Path) -> str | None:
    """The commit that a repository began with, in hex: where the first parents of HEAD lead to."""
    said = _ask_git(root, "rev-list", "--max-parents=0", "--first-parent", "HEAD")
    return said.split()[0] if said else None


def git_directory(root: Path) -> Path:
    """`.git`, or what it points to in a worktree or submodule, down to the shared folder."""
    directory = root / ".git"
    if directory.is_file():
        text = directory.read_text("utf-8", errors="replace")[:4096]
        directory = root / text.removeprefix("gitdir:").strip()
    common = directory / "commondir"
    if common.is_file():
        directory = directory / common.read_text("utf-8", errors="replace")[:4096].strip()
    return directory


def _parse_remotes(text: str) -> tuple[dict[str, str], bool]:
    remotes: dict[str, str] = {}
    indirect = False
    remote: str | None = None
    for line in text.splitlines():
        if section := _SECTION.match(line):
            kind = section[1].lower()
            indirect = indirect or kind in _INDIRECT
            remote = section[2] if kind == "remote" else None
            line = line[section.end() :]
        if remote is not None and (url := _URL.match(line)):
            value = url[1].strip()
            quoted = re.match(r'"([^"]*)"', value)
            value = quoted[1] if quoted else re.split("[#;]", value)[0]
            if value.strip():
                remotes.setdefault(remote, value.strip())
    return remotes, indirect


def _ask_git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=git_environment(),
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() or None if done.returncode == 0 else None


def _name(path: str) -> str:
    return os.path.basename(path)


def _hash(kind: str, identity: str) -> str:
    text = f"{kind}\0{identity}".encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=ID_BYTES, person=b"localmem-project").hexdigest()
