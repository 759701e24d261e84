"""Real code and English sentences, taken from the standard library that runs the tests."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def functions(count: int) -> list[str]:
    """Sources of functions of 80 to 800 characters, spread over the whole library."""
    return _spread([code for code, _ in _definitions() if 80 < len(code) < 800], count)


def sentences(count: int) -> list[str]:
    """Opening paragraphs of docstrings, 30 to 300 characters each."""
    opened = [" ".join(text.split("\n\n")[0].split()) for _, text in _definitions()]
    return _spread([text for text in opened if 30 < len(text) < 300], count)


@cache
def _definitions() -> tuple[tuple[str, str], ...]:
    return tuple(_parsed_definitions())


def _parsed_definitions() -> Iterator[tuple[str, str]]:
    """(source, docstring) of every function in every third top-level module."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[::3]:
        source = path.read_text(encoding="utf-8", errors="replace")
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                code = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                yield code, ast.get_docstring(node) or ""


def _spread(texts: list[str], count: int) -> list[str]:
    chosen = texts[:: len(texts) // count][:count]
    assert len(chosen) == count
    return chosen
