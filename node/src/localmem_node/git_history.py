"""The edits of a git repository's history, as drafts: real input for the demo and the benchmarks.

`git log -p` is read as it comes, newest commit first, and parsed by the line counts of the hunk
headers (POSIX diff, unified format), so that no content is taken for structure.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from localmem_node.errors import GitMissing, HistoryError, NoCommits, NotARepository
from localmem_node.git_process import git_environment
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft, parse_draft

COMMITS_MAX: Final = 5_000
"""Commits looked at, newest first."""

HUNKS_PER_COMMIT_MAX: Final = 30
"""A commit with more hunks (a reformatting, an import) is no edit of a person; it is left out."""

LARGE_COMMIT_HUNKS_MAX: Final = 10_000
"""Where only some of each commit are wanted: hunks of a commit that are held to choose from."""

SNIPPET_CHARACTERS_MAX: Final = 800
"""Characters of added lines kept of a hunk."""

LINE_BYTES_MAX: Final = 4096
"""Bytes kept of one line; the rest of a minified line is read and dropped."""

_GENERATED: Final = re.compile(
    r"(?:^|/)(?:[^/]*[-.]lock(?:\.(?:json|yaml|toml))?|package-lock\.json|pnpm-lock\.yaml|go\.sum"
    r"|npm-shrinkwrap\.json|[^/]*\.(?:min\.(?:js|css)|map|snap|svg|ipynb|pb\.go|csv)|[^/]*_pb2\.pyi?"
    r"|[^/]*\.po|[^/]*\.generated\.[^/]*)$"
    r"|(?:^|/)(?:vendor|node_modules|third_party|dist|\.yarn|__snapshots__)/",
    re.IGNORECASE,
)
_HUNK: Final = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)")
_ESCAPE: Final = re.compile(rb'\\([0-7]{3}|[abtnvfr"\\])')
_ESCAPED: Final = dict(zip(b'abtnvfr"\\', b'\a\b\t\n\v\f\r"\\', strict=True))

# What a user's configuration may change of the output, set to what the parser reads. External diff
# and text conversion programs that a repository names are not run.
_LOG: Final = (
    "git", "--no-pager", "-c", "log.showRoot=true",
    "-c", "log.showSignature=false", "-c", "diff.suppressBlankEmpty=false",
    "log", "--no-merges", "--patch", "--no-color", "--no-ext-diff", "--no-textconv",
    "--find-renames", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/", "--unified=3",
    "--inter-hunk-context=0", "--diff-algorithm=default", "--ignore-submodules=all",
    "--encoding=UTF-8", "--format=%x00%H %ct %s", "--diff-filter=AMR",
)  # fmt: skip

_TRAILERS: Final = re.compile(r"\s*\((?:(?:close[sd]?|fix(?:e[sd])?|see|refs?)\s+)?#\d+\)", re.I)
_CONVENTIONAL: Final = re.compile(
    r"^(?:feat|fix|bugfix|hotfix|docs?|style|refactor|perf|tests?|build|ci|chore|revert|deps?|wip)"
    r"(?:\([^)]{0,60}\))?!?:\s*",
    re.IGNORECASE,
)
_REFERENCES: Final = re.compile(
    r"^(?:\[[^\]]{1,40}\]\s*)+|^(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)?\s*#\d+[\s:.,-]*", re.I
)


@dataclass(frozen=True, slots=True)
class Place:
    """Lines of a file, 1-based, both included."""

    path: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Hunk:
    """One edit: the commit that made it, that commit's subject, the event it would have been.

    `before` is where it was made, in the parent commit: the lines that it changed and up to three
    around them; None where there were none.
    """

    commit: str
    subject: str
    draft: Draft
    before: Place | None = None


@dataclass(slots=True)
class _Commit:
    digest: str
    timestamp: int
    subject: str
    hunks: list[Hunk]
    seen: int = 0


def read_hunks(
    repository: Path,
    *,
    project: str | None = None,
    commits: int = COMMITS_MAX,
    hunks_per_commit: int = HUNKS_PER_COMMIT_MAX,
    snippet_characters: int = SNIPPET_CHARACTERS_MAX,
) -> Generator[list[Hunk], None, None]:
    """Commit by commit, newest first, the hunks that add lines, in the order of the diff.

    Merges, binary, generated, vendored and lock files are left out, and commits with more than
    `hunks_per_commit` hunks. A snippet is the enclosing symbol, if git names one, after `@@ `, and
    the added lines, cut at a line to `snippet_characters`; `selectionRange` spans all added lines
    in the new file; `timestamp` is the time of the commit. Bytes that are not UTF-8 are replaced.
    Raises GitMissing, NotARepository, NoCommits, HistoryError.
    """
    _check(repository)
    with _git_log(repository, commits) as output:
        for commit in _commits(output, project, hunks_per_commit, snippet_characters):
            if commit.hunks and commit.seen <= hunks_per_commit:
                yield commit.hunks


def recent_hunks(
    repository: Path, count: int, *, project: str | None = None, taken_per_commit: int | None = None
) -> list[Hunk]:
    """The newest `count` hunks of a repository, oldest first. Raises as `read_hunks`.

    With `taken_per_commit`, that many of any commit, however large, in place of leaving it out.
    """
    newest: list[list[Hunk]] = []
    limit = HUNKS_PER_COMMIT_MAX if taken_per_commit is None else LARGE_COMMIT_HUNKS_MAX
    reading = read_hunks(repository, project=project, hunks_per_commit=limit)
    with contextlib.closing(reading) as commits:
        for hunks in commits:
            newest.append(hunks[:taken_per_commit])
            if sum(map(len, newest)) >= count:
                break
    oldest_first = [hunk for hunks in reversed(newest) for hunk in hunks]
    return oldest_first[max(len(oldest_first) - count, 0) :]


def cleaned_subject(subject: str) -> str:
    """A commit subject as a question: without `fix(api):`, `[tag]`, `#12:`, `(#123)`, final stop."""
    text = _TRAILERS.sub("", subject).strip()
    while (shorter := _CONVENTIONAL.sub("", _REFERENCES.sub("", text)).strip()) != text:
        text = shorter
    return text.rstrip(" .")


def _check(repository: Path) -> None:
    folder = repository.resolve()
    if not repository.is_dir():
        raise NotARepository(f"{folder} is not a directory; give --repo PATH")
    inside = run_git(repository, "rev-parse", "--git-dir")
    if inside.returncode:
        reason = _first_line(inside.stderr)
        raise NotARepository(
            f"{folder} is in no git repository that can be read ({reason}); "
            "stand in one, or give --repo PATH"
        )
    if run_git(repository, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").returncode:
        raise NoCommits(f"{folder} has no commits yet; commit something, or give --repo PATH")


def run_git(repository: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A finished git command of a repository, in English, undisturbed by the user's. Raises GitMissing."""
    try:
        return subprocess.run(
            ["git", "-C", str(repository), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=git_environment(),
            check=False,
        )
    except FileNotFoundError:
        raise GitMissing("git is not installed; install it, or record events another way") from None


@contextlib.contextmanager
def _git_log(repository: Path, commits: int) -> Iterator[IO[bytes]]:
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            [*_LOG, f"--max-count={commits}"],
            cwd=repository,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=git_environment(),
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout
        except BaseException:  # the reader has enough, or failed
            process.kill()
            raise
        if process.wait():
            complaints.seek(0)
            raise HistoryError(f"git log failed in {repository}: {_first_line(complaints.read())}")


def _commits(
    output: IO[bytes], project: str | None, hunks: int, characters: int
) -> Iterator[_Commit]:
    commit: _Commit | None = None
    old = path = None
    while line := _line(output):
        if line.startswith(b"\0"):
            if commit:
                yield commit
            commit, old, path = _started(line), None, None
        elif line.startswith(b"--- "):
            old = _path(line[4:])
        elif line.startswith(b"+++ "):
            path = _path(line[4:])
        elif commit and (header := _HUNK.match(line)):
            added = _added(output, header)
            if path and not _GENERATED.search(path):
                commit.seen += 1
                if commit.seen <= hunks:
                    drafts = _draft(commit, path, _text(header[5]), added, project, characters)
                    before = _before(old, header)
                    commit.hunks += [
                        Hunk(commit.digest, commit.subject, draft, before) for draft in drafts
                    ]
    if commit:
        yield commit


def _started(line: bytes) -> _Commit:
    digest, seconds, subject = _text(line[1:]).split(" ", 2)
    return _Commit(digest, int(seconds) * 1000, subject, [])


def _line(output: IO[bytes]) -> bytes:
    """The next line, cut to LINE_BYTES_MAX, with its line feed unless cut; b"" at the end."""
    line = output.readline(LINE_BYTES_MAX)
    rest = line
    while rest and not rest.endswith(b"\n"):
        rest = output.readline(LINE_BYTES_MAX)
    return line


def _added(output: IO[bytes], header: re.Match[bytes]) -> list[tuple[int, str]]:
    """The lines that a hunk adds, with their numbers in the new file."""
    old, number, new = (int(header[group] or 1) for group in (2, 3, 4))
    added: list[tuple[int, str]] = []
    while (old > 0 or new > 0) and (line := _line(output)):
        mark = line[:1]
        if mark == b"\\":  # "No newline at end of file"
            continue
        if mark == b"+":
            added.append((number, _text(line[1:])))
        old -= mark != b"+"
        new -= mark != b"-"
        number += mark != b"-"
    return added


def _before(path: str | None, header: re.Match[bytes]) -> Place | None:
    first, count = int(header[1]), int(header[2] or 1)
    return Place(path, first, first + count - 1) if path and count else None


def _draft(
    commit: _Commit,
    path: str,
    symbol: str,
    added: list[tuple[int, str]],
    project: str | None,
    characters: int,
) -> list[Draft]:
    """The draft of a hunk; none for one that adds nothing but space, or has an impossible path."""
    if not any(line.strip() for _, line in added):
        return []
    fields = {
        "timestamp": commit.timestamp,
        "filePath": path,
        "selectionRange": (added[0][0], added[-1][0]),
        "snippet": _snippet(symbol, [line for _, line in added], characters),
        "tool": "git",
        "project": project,
    }
    try:
        return [parse_draft(fields)]
    except EventError:
        return []


def _snippet(symbol: str, lines: list[str], characters: int) -> str:
    kept: list[str] = []
    room = characters
    for line in lines:
        if len(line) > room and kept:
            break
        kept.append(line[:room])
        room -= len(line) + 1
        if room <= 0:
            break
    return "\n".join([f"@@ {symbol}", *kept] if symbol else kept)


def _path(name: bytes) -> str | None:
    """The path in a `---` or `+++` line: prefix cut off, C quoting undone; None for /dev/null."""
    name = name.rstrip(b"\r\n").removesuffix(b"\t")
    if name.startswith(b'"'):
        name = _ESCAPE.sub(_unescaped, name[1:-1])
    return _text(name[2:]) if name.startswith((b"a/", b"b/")) else None


def _unescaped(escape: re.Match[bytes]) -> bytes:
    code = escape[1]
    return bytes([int(code, 8) & 0xFF] if len(code) == 3 else [_ESCAPED[code[0]]])


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode(errors="replace")


def _first_line(message: bytes) -> str:
    return (message.decode(errors="replace").strip().splitlines() or ["no reason given"])[0]
