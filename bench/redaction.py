"""How often does redaction take out what is no secret, what does it cost, and what does it miss?

On real source files (the standard library and the installed packages, or --path), next to the default
scan of detect-secrets on the same files. Hardly any line of these holds a secret, so every line in
which something is found counts as false, though some are right: the shares are upper bounds. Then
the secrets of `planted_secrets`, which are ours and so favour us; a scan has found one if it reports
anything in its text, wherever. Then the cost of short snippets and of hostile ones of 64 KiB.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import re
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings

from bench.planted_secrets import missed, planted
from bench.report import print_json, print_progress, print_table
from localmem_node.capture.redaction import redact
from localmem_node.errors import NodeError

LINES: Final = 60_000
SNIPPET_LINES: Final = 40
SNIPPET_CHARACTERS: Final = 200
SNIPPETS: Final = 500
SEEDS: Final = 10
LARGE_BYTES: Final = 64 * 1024
FILE_BYTES_MAX: Final = 2 * 1024 * 1024
SUFFIXES: Final = (
    ".py", ".pyi", ".pyx", ".c", ".h", ".cpp", ".cs", ".go", ".rs", ".java", ".kt", ".js", ".mjs", ".cjs",
    ".ts", ".tsx", ".jsx", ".vue", ".svelte", ".sql", ".sh", ".html", ".css", ".json", ".toml", ".yaml",
    ".yml", ".ini", ".cfg", ".properties", ".xml", ".md", ".rst", ".txt", ".lock", ".sum", ".mod", ".proto",
)  # fmt: skip
HOSTILE: Final = ("password=", "eyJ", "://a:", "//a/:_authToken=", "token_", "aB3/", "key: a")

_PLACEHOLDER: Final = re.compile(r"\[redacted:([a-z-]+)\]")


@dataclass(slots=True)
class Found:
    """Lines in which something was found, by kind, and the seconds that it took."""

    lines: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def as_json(self, lines: int) -> dict[str, object]:
        """For one JSON object; `lines` is how many were looked at."""
        return {
            "lines": self.lines,
            "percent_of_lines": round(100 * self.lines / lines, 4),
            "by_kind": dict(self.kinds.most_common()),
            "us_per_line": round(1e6 * self.seconds / lines, 2),
        }


def sources(roots: Sequence[Path], lines: int) -> Iterator[tuple[Path, list[str]]]:
    """Source files under the roots with their lines, in an order that is no order of names, until
    there are `lines` lines.
    """
    found = [path for root in roots for path in root.rglob("*") if path.suffix in SUFFIXES]
    found.sort(key=lambda path: hashlib.blake2b(str(path).encode()).digest())
    for path in found:
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                continue
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        yield path, text.split("\n")
        lines -= text.count("\n") + 1
        if lines <= 0:
            return


def ours(lines: list[str], found: Found) -> None:
    """Redact a file in snippets; a line counts that holds a placeholder or went with its secret."""
    for first in range(0, len(lines), SNIPPET_LINES):
        snippet = "\n".join(lines[first : first + SNIPPET_LINES])
        began = time.perf_counter()
        redacted = redact(snippet)
        found.seconds += time.perf_counter() - began
        if redacted != snippet:
            found.lines += snippet.count("\n") - redacted.count("\n")
            found.lines += sum(
                _PLACEHOLDER.search(line) is not None for line in redacted.split("\n")
            )
            found.kinds.update(_PLACEHOLDER.findall(redacted))


def theirs(path: Path, found: Found) -> None:
    """The default scan of detect-secrets, which verifies nothing over the network."""
    began = time.perf_counter()
    secrets = list(scan_file(str(path)))
    found.seconds += time.perf_counter() - began
    found.lines += len({one.line_number for one in secrets})
    found.kinds.update(one.type for one in secrets)


def measure(roots: Sequence[Path], lines: int) -> dict[str, Any]:
    """Everything, as one JSON object. Raises NodeError if there is no source file."""
    mine, other, files, total = Found(), Found(), 0, 0
    snippets: list[str] = []
    with default_settings():
        for path, text in sources(roots, lines):
            files, total = files + 1, total + len(text)
            ours(text, mine)
            theirs(path, other)
            whole = "\n".join(text)
            starts = range(0, len(whole), max(SNIPPET_CHARACTERS, len(whole) // 20))
            snippets += [whole[at : at + SNIPPET_CHARACTERS] for at in starts]
        if not files:
            raise NodeError(f"no source file under {', '.join(map(str, roots))}; name others")
        print_progress(f"{files} files, {total} lines; planted secrets and snippets …")
        with tempfile.TemporaryDirectory() as folder:
            scan = partial(_unless_found, Path(folder) / "planted.txt")
            by_scan = sum(len(missed(scan, str(seed))) for seed in range(SEEDS))
    classes: list[Any] = list(get_mapping_from_secret_type_to_class().values())
    detectors = [one() for one in classes]

    def detected(text: str) -> None:
        for line in text.split("\n"):
            for detector in detectors:
                detector.analyze_line("adhoc", line, 1)

    by_us = sum(len(missed(redact, str(seed))) for seed in range(SEEDS))
    count = sum(len(planted(str(seed))) for seed in range(SEEDS))
    return {
        "files": files,
        "lines": total,
        "localmem": mine.as_json(total),
        "detect_secrets": other.as_json(total)
        | {"version": importlib.metadata.version("detect-secrets")},
        "snippet_characters": SNIPPET_CHARACTERS,
        "snippet_us": {
            "localmem": _median_us(snippets, redact),
            "detectors_alone": _median_us(snippets, detected),
        },
        "hostile_bytes": LARGE_BYTES,
        "hostile_ms": {"localmem": _worst_ms(redact), "detectors_alone": _worst_ms(detected)},
        "planted": count,
        "planted_missed": {"localmem": by_us, "detect_secrets": by_scan},
    }


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser("bench redaction", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--path", action="append", type=Path, help="a folder of sources; repeatable"
    )
    parser.add_argument("--lines", type=int, default=LINES, help=f"how many lines [{LINES}]")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    roots = options.path or [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    result = measure(roots, options.lines)
    if options.json:
        print_json(result)
        return
    mine, other = result["localmem"], result["detect_secrets"]
    snippet, hostile, missing = (
        result[name] for name in ("snippet_us", "hostile_ms", "planted_missed")
    )
    rows = [
        (f"% of {result['lines']} lines with a find", mine["percent_of_lines"], other["percent_of_lines"], ""),
        (f"missed of {result['planted']} planted secrets", missing["localmem"], missing["detect_secrets"], ""),
        ("µs per line", mine["us_per_line"], other["us_per_line"], ""),
        (f"µs for {SNIPPET_CHARACTERS} characters, median", snippet["localmem"], "", snippet["detectors_alone"]),
        (f"ms for {LARGE_BYTES // 1024} KiB, the worst", hostile["localmem"], "", hostile["detectors_alone"]),
    ]  # fmt: skip
    print_table(["", "localmem", f"detect-secrets {other['version']}", "its detectors alone"], rows)
    print()
    pairs = zip_longest(
        *([f"{n} {kind}" for kind, n in one["by_kind"].items()] for one in (mine, other)),
        fillvalue="",
    )
    print_table(["localmem found", "detect-secrets found"], list(pairs))


def _unless_found(path: Path, text: str) -> str:
    """The text, unless a scan of it as a file reports anything."""
    path.write_text(text)
    return "" if list(scan_file(str(path))) else text


def _median_us(snippets: Sequence[str], work: Callable[[str], object]) -> float:
    taken = []
    for snippet in snippets[:: max(1, len(snippets) // SNIPPETS)]:
        began = time.perf_counter()
        work(snippet)
        taken.append(time.perf_counter() - began)
    return round(1e6 * float(np.median(taken)), 1)


def _worst_ms(work: Callable[[str], object]) -> float:
    worst = 0.0
    for piece in HOSTILE:
        text = piece * (LARGE_BYTES // len(piece))
        began = time.perf_counter()
        work(text)
        worst = max(worst, time.perf_counter() - began)
    return round(1000 * worst, 1)
