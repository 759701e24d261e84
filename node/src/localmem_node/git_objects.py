"""What git has of files: of the index, of HEAD and of older commits, read without a checkout.

A few short-lived processes for many files, none of which is waited for longer than GIT_TIMEOUT_S; what
is no regular file, or larger than FILE_BYTES_MAX, counts as not there. Names may come from strangers:
they go in by standard input, or as literal paths after `--`.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterable, Sequence
from typing import Final

from localmem_node.git_process import git_environment
from localmem_node.locating import FILE_BYTES_MAX

GIT_TIMEOUT_S: Final = 3.0
"""What git is given: it takes some milliseconds, and a history that takes longer is read as far as it
came."""

READ_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes of objects that one call reads; what does not fit counts as not there."""

NAMES_MAX: Final = 1024
"""Objects that git is asked for at once."""

_GIT: Final = ("git", "--no-pager", "--literal-pathspecs", "-c", "core.fsmonitor=false")
_FOUND: Final = re.compile(rb"([0-9a-f]{40,64}) blob ([0-9]{1,18})")
_CHANGE: Final = re.compile(
    rb":([0-7]{6}) ([0-7]{6}) ([0-9a-f]{40,64}) ([0-9a-f]{40,64}) [A-Z][0-9]*"
)
_REGULAR: Final = b"100"


class GitTooSlow(Exception):
    """git did not answer in time, or cannot be run."""


def is_inside(path: str) -> bool:
    """Whether a path, as an event has it, is one below the root of a project and nothing else.

    None that is absolute, leaves the root, has an odd form, or would end a line of what git is asked.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        return False
    return path.isprintable()


def read_objects(root: str, names: Iterable[str]) -> dict[str, bytes]:
    """The content of blobs by their names: `HEAD:path`, `:0:path`, or hashes. Raises GitTooSlow."""
    wanted = list(dict.fromkeys(names))[:NAMES_MAX]
    if not wanted:
        return {}
    lines = _ask(root, ("cat-file", "--batch-check"), wanted).split(b"\n")
    hashes: dict[str, bytes] = {}
    left = READ_BYTES_MAX
    sizes: dict[bytes, int] = {}
    for name, line in zip(wanted, lines, strict=False):
        found = _FOUND.fullmatch(line)
        if found is None or int(found[2]) > min(FILE_BYTES_MAX, left):
            continue
        if found[1] not in sizes:
            sizes[found[1]] = int(found[2])
            left -= int(found[2])
        hashes[name] = found[1]
    contents = _contents(root, sizes)
    return {name: contents[one] for name, one in hashes.items() if one in contents}


def versions(root: str, path: str, count: int) -> list[str]:
    """The hashes of at most `count` versions that a file had in commits, the newest first.

    Raises GitTooSlow if git cannot say any in time.
    """
    arguments = ("log", "--branches", "--remotes", f"--max-count={count}", "--format=", "--raw")
    order = ("--no-abbrev", "-z", "--no-renames", "--no-ext-diff", "HEAD", "--", path)
    words = _ask(root, (*arguments, *order), (), partly=True).split(b"\0")
    found: dict[str, None] = {}
    place = 0
    while place < len(words):
        change = _CHANGE.fullmatch(words[place].lstrip(b"\n"))
        place += 1 if change is None else 2  # behind a change is its path
        if change is None:
            continue
        for mode, one in ((change[2], change[4]), (change[1], change[3])):
            if mode.startswith(_REGULAR) and one.strip(b"0"):
                found[one.decode()] = None
    return list(found)[:count]


def read_work_file(root: str, path: str) -> bytes | None:
    """A regular file of a work tree, reached without following a link; None if it is none."""
    *folders, name = path.split("/")
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = -1
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        for folder in folders:
            above, descriptor = descriptor, -1
            try:
                descriptor = os.open(folder, flags | os.O_DIRECTORY, dir_fd=above)
            finally:
                os.close(above)
        # A pipe must not be waited for.
        with open(os.open(name, flags | os.O_NONBLOCK, dir_fd=descriptor), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size > FILE_BYTES_MAX:
                return None
            return file.read(FILE_BYTES_MAX)
    except (OSError, ValueError):
        return None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _contents(root: str, sizes: dict[bytes, int]) -> dict[bytes, bytes]:
    """What objects hold, as `cat-file --batch` tells it: a line with the size, so many bytes, a line end."""
    if not sizes:
        return {}
    data = _ask(root, ("cat-file", "--batch"), [one.decode() for one in sizes])
    found: dict[bytes, bytes] = {}
    at = 0
    for one, size in sizes.items():
        end = data.find(b"\n", at)
        if data[at:end] != b"%s blob %d" % (one, size):
            break
        found[one] = data[end + 1 : end + 1 + size]
        at = end + size + 2
    return found


def _ask(
    root: str, arguments: Sequence[str], lines: Sequence[str], *, partly: bool = False
) -> bytes:
    """What git says; nothing if it fails. `partly`: what it said until its time was up will do."""
    try:
        done = subprocess.run(
            [*_GIT, "-C", root, *arguments],
            input=os.fsencode("".join(f"{line}\n" for line in lines)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=git_environment(),
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        if partly and error.stdout:
            return bytes(error.stdout)
        raise GitTooSlow from None
    except (OSError, ValueError):
        raise GitTooSlow from None
    return done.stdout if done.returncode == 0 else b""
