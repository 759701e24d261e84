"""Edits for benchmarks: pieces of real source files, with what an editor's hook sends along.

The files are those of the standard library and, if they are not enough, of the packages that are
installed, in an order that a seed shuffles; a piece is five lines, 200 characters at most, and comes
once. Half a minute lies between two edits, 200 edits share a session, all of them a project.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np

from localmem_node.errors import NodeError

LINES: Final = 5
SNIPPET_CHARACTERS: Final = 200
SESSION_EDITS: Final = 200
CHECKOUT: Final = "/home/developer/projects/library"
PAUSE_MS_MAX: Final = 60_000
BEGAN_MS: Final = 1_760_000_000_000
SEED: Final = 20_261_123


class TooFewSources(NodeError):
    """This machine has fewer pieces of source than were asked for."""


def edits(count: int) -> Iterator[dict[str, Any]]:
    """`count` JSON objects of edits, no snippet twice; the same ones on the same machine.

    Raises TooFewSources.
    """
    chance = np.random.default_rng(SEED)
    seen: set[int] = set()
    now_ms = BEGAN_MS
    for path, line, snippet in _pieces(chance):
        if len(seen) == count:
            return
        digest = hash(snippet)
        if digest in seen:
            continue
        seen.add(digest)
        now_ms += int(chance.integers(1, PAUSE_MS_MAX))
        yield {
            "timestamp": now_ms,
            "filePath": path,
            "selectionRange": [line, line + LINES - 1],
            "snippet": snippet,
            "kind": "edit",
            "tool": "claude-code",
            "session": _name("session", len(seen) // SESSION_EDITS),
            "project": _name("project", 0),
        }
    if len(seen) < count:
        raise TooFewSources(
            f"the sources on this machine have {len(seen)} pieces; ask for fewer than {count}"
        )


def _pieces(chance: np.random.Generator) -> Iterator[tuple[str, int, str]]:
    """(path, first line, text), file after file."""
    for name, file in _files(chance):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        for first in range(0, len(lines), LINES):
            snippet = "\n".join(lines[first : first + LINES])[:SNIPPET_CHARACTERS]
            if snippet.strip():
                yield name, first + 1, snippet


def _files(chance: np.random.Generator) -> Iterator[tuple[str, Path]]:
    """Each file, and where an editor would have it: what git ignores there is not recorded."""
    library, installed = (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    own = [path for path in library.rglob("*.py") if "site-packages" not in path.parts]
    for root, files in ((library, sorted(own)), (installed, sorted(installed.rglob("*.py")))):
        for index in chance.permutation(len(files)):
            yield f"{CHECKOUT}/{files[index].relative_to(root)}", files[index]


def _name(kind: str, number: int) -> str:
    return blake2b(f"{kind} {number}".encode(), digest_size=8).hexdigest()
