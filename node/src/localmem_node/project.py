"""Which project a file belongs to: an id that clones share and namesakes do not.

It is a hash of the git remote, written in one normal form whatever the transport and without
credentials; a repository without a remote, or a folder that is none, is known by its path, and so
only on this device.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

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


def project_id(path: Path) -> str | None:
    """The id of the project that a file or folder is in, 16 hex digits; None outside of any."""
    root = find_root(path)
    if root is None:
        return None
    remote = remote_url(root)
    return (project_of_remote(remote) if remote else None) or _hash("path", str(root))


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
    """The nearest folder at or above `path` that has a `.git`."""
    path = Path(os.path.realpath(path))
    for folder in (path, *path.parents):
        if (folder / ".git").exists():
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
    directory = _git_directory(root)
    try:
        with (directory / "config").open("rb") as file:
            text = file.read(CONFIG_BYTES_MAX).decode(errors="replace")
    except OSError:
        return None
    remotes, indirect = _parse_remotes(text)
    if indirect:
        return _ask_git(root) or remotes.get("origin")
    return remotes.get("origin") or next(iter(remotes.values()), None)


def _git_directory(root: Path) -> Path:
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


def _ask_git(root: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "remote", "get-url", "origin"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() or None if done.returncode == 0 else None


def _hash(kind: str, identity: str) -> str:
    text = f"{kind}\0{identity}".encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=ID_BYTES, person=b"localmem-project").hexdigest()
