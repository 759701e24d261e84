"""Train the compression dictionary that ships with the protocol.

Usage: python protocol/train_dictionary.py --version N [--size BYTES]

It learns from this repository's own Python and Markdown sources, cut into snippets the size of real
edits, and from the records and batch columns that those snippets make. A dictionary contains text of
what it was trained on, so nothing else goes in. A version that has shipped is never trained again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import zstandard

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("protocol/src", "node/src", "hub/src", "docs", "tests", "bench")
LINES_PER_SNIPPET = 6


def snippets() -> Iterator[tuple[str, int, str]]:
    """(path, first line, text) of every piece of this repository's sources."""
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in {".py", ".md"}:
                continue
            lines = path.read_text(encoding="utf-8").splitlines()
            for first in range(0, len(lines), LINES_PER_SNIPPET):
                text = "\n".join(lines[first : first + LINES_PER_SNIPPET])
                if text.strip():
                    yield str(path.relative_to(ROOT)), first + 1, text


def samples() -> list[bytes]:
    """Snippets, and every tenth as the record that the store would write."""
    found: list[bytes] = []
    for number, (path, first, text) in enumerate(snippets()):
        found.append(text.encode())
        if number % 10 == 0:
            record = (
                1_760_000_000_000 + number * 977,
                path,
                (first, first + 5),
                text,
                None,
                "edit",
            )
            found.append(msgspec.msgpack.encode(record))
    return found


def main() -> int:
    """Write the dictionary beside the module that reads it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--size", type=int, default=32 * 1024)
    arguments = parser.parse_args()
    target = ROOT / f"protocol/src/localmem_protocol/dictionary_{arguments.version}.zdict"
    if target.exists():
        print(f"{target.name} has shipped; train the next version", file=sys.stderr)
        return 1
    pieces = samples()
    trained = zstandard.train_dictionary(arguments.size, pieces, level=19)
    target.write_bytes(trained.as_bytes())
    print(f"{target.name}: {len(trained.as_bytes())} bytes from {len(pieces)} samples")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
