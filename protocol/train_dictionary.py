"""Train a compression dictionary that ships with the protocol.

Usage: python protocol/train_dictionary.py --version N [--size BYTES]

It learns from this repository's own sources and from the idioms in `protocol/idioms`, which were
written for it; a dictionary contains text of what it was trained on, so nothing else goes in. What
it read is listed in `protocol/dictionary_N.sources`. A version that has shipped is never trained
again: what was compressed with it needs the same bytes.

A dictionary is zstd's: entropy tables, then content. The tables are trained on texts like those of
batches, ten snippets each. What zstd chose as content goes first and the idioms last, since a match
costs more the further back it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import zstandard

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("protocol/src", "node/src", "hub/src", "docs", "tests", "bench", "integrations")
IDIOMS = ("markdown", "go", "typescript", "python")
LINES_PER_SNIPPET = 6
SNIPPETS_PER_BATCH = 10
LEVEL = 19


def sources() -> Iterator[Path]:
    """Every file that it learns from, idioms aside."""
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".md", ".ts", ".mjs", ".go"} and path.is_file():
                yield path


def idioms() -> list[Path]:
    """The idioms, the most useful last."""
    return [ROOT / f"protocol/idioms/{name}.txt" for name in IDIOMS]


def snippets(path: Path) -> list[str]:
    """A file in pieces the size of real edits."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pieces = [
        "\n".join(lines[first : first + LINES_PER_SNIPPET])
        for first in range(0, len(lines), LINES_PER_SNIPPET)
    ]
    return [piece for piece in pieces if piece.strip()]


def samples(paths: list[Path]) -> list[bytes]:
    """The texts of batches, of snippets in an order that is the same every time."""
    pieces = [piece.encode() for path in paths for piece in snippets(path)]
    pieces.sort(key=lambda piece: sha256(piece).digest())
    return [
        b"\n".join(pieces[first : first + SNIPPETS_PER_BATCH])
        for first in range(0, len(pieces), SNIPPETS_PER_BATCH)
    ]


def train(size: int) -> bytes:
    """A dictionary of at most `size` bytes."""
    last = b"\n".join(path.read_bytes() for path in idioms())
    texts = samples([*sources(), *idioms()])
    trained = zstandard.train_dictionary(size - len(last), texts, level=LEVEL).as_bytes()
    return trained + last


def main() -> int:
    """Write the dictionary beside the module that reads it, and the list of what it saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--size", type=int, default=112 * 1024)
    arguments = parser.parse_args()
    target = ROOT / f"protocol/src/localmem_protocol/dictionary_{arguments.version}.zdict"
    if target.exists():
        print(f"{target.name} has shipped; train the next version", file=sys.stderr)
        return 1
    data = train(arguments.size)
    target.write_bytes(data)
    listing = ROOT / f"protocol/dictionary_{arguments.version}.sources"
    listing.write_text(
        "".join(
            f"{sha256(path.read_bytes()).hexdigest()} {path.relative_to(ROOT)}\n"
            for path in [*sources(), *idioms()]
        ),
        encoding="utf-8",
    )
    print(f"{target.name}: {len(data)} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
