"""Documented functions of installed packages, read from their files and never imported.

A package is a root: the standard library, or what a distribution with a permissive licence put at
the top of the folder of installed packages. Rules, much as those of CodeSearchNet (Husain and
others, 2019, section 2):

- functions and methods outside other functions, with a docstring; not in a folder or file of tests,
  not `__dunder__`, no name with `test` in it;
- without its docstring a function has three lines or more, and does more than to pass or to say that
  it is not implemented;
- of functions with the same source (without docstring and indentation) the first.

Files come in an order drawn from the seed, after sorting, so that a set is the same wherever the same
packages are installed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

LINES_MIN: Final = 3
FILE_BYTES_MAX: Final = 1_000_000
"""A larger file was written by a program."""

_TESTS: Final = re.compile(r"^(?:_?tests?|testing|idle_test|conftest\.py|tests?_.*|.*_tests?\.py)$")
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_PERMISSIVE: Final = re.compile(
    r"\b(?:MIT|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|Unlicense|zlib)\b", re.IGNORECASE
)
_OTHER: Final = re.compile(r"GPL|GNU|MPL|Mozilla|EPL|Eclipse|Proprietary|NVIDIA", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Function:
    """One function: where it is (lines 1-based, both included), its source without its docstring.

    `path` begins with the name of its root. `body` is a digest of its statements.
    """

    package: str
    path: str
    first: int
    last: int
    name: str
    source: str
    docstring: str
    body: bytes


def packages() -> list[Path]:
    """Roots of the running interpreter, by name: the standard library and permissive packages."""
    places = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    roots = {Path(sysconfig.get_path("stdlib"))}
    for distribution in importlib.metadata.distributions(path=places):
        if not is_permissive(distribution.metadata):
            continue
        for file in distribution.files or ():
            top = file.parts[0]
            if file.suffix == ".py" and top.removesuffix(".py").isidentifier():
                roots.add(Path(str(distribution.locate_file(top))))
    return sorted(roots, key=lambda root: (root.name, root))


def name_of(root: Path) -> str:
    """A package is called as it is imported; the standard library as its folder."""
    return root.name.removesuffix(".py")


def is_permissive(metadata: importlib.metadata.PackageMetadata) -> bool:
    """Whether the metadata of a distribution name a permissive licence and no other."""
    licences = metadata.get_all("License-Expression") or [
        *(each for each in metadata.get_all("Classifier") or () if each.startswith("License ::")),
        *(text.strip().split("\n")[0] for text in metadata.get_all("License") or ()),
    ]
    named = "\n".join(licences)
    return bool(_PERMISSIVE.search(named)) and not _OTHER.search(named)


def functions(roots: Sequence[Path], count: int, seed: int) -> list[Function]:
    """`count` functions below these roots (fewer, if there are no more), drawn by the seed."""
    files = [(root, file) for root in roots for file in sorted(_files(root))]
    chance = np.random.default_rng(seed)
    seen: set[bytes] = set()
    found: list[Function] = []
    for at in chance.permutation(len(files)).tolist():
        root, file = files[at]
        for function in of_file(file, root):
            digest = _digest(function.source.split("\n"))
            if digest not in seen:
                seen.add(digest)
                found.append(function)
        if len(found) >= count:
            break
    # Those of a file lie side by side; whoever goes by their order should learn nothing.
    return [found[at] for at in chance.permutation(len(found)).tolist()[:count]]


def of_file(file: Path, root: Path) -> list[Function]:
    """The functions of a file that follow the rules; none of a file that does not parse."""
    try:
        text = file.read_text(encoding="utf-8").replace("\r\n", "\n")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in other people's strings
            tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    lines = text.split("\n")
    path = file.relative_to(root.parent).as_posix()
    made = (_function(node, lines, root, path) for node in _outermost(tree))
    return [function for function in made if function is not None]


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).parts
        if any(_TESTS.match(part) or part in _INSTALLED for part in parts):
            continue
        if file.stat().st_size <= FILE_BYTES_MAX:
            yield file


_Definition = ast.FunctionDef | ast.AsyncFunctionDef


def _outermost(tree: ast.AST) -> Iterator[_Definition]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _Definition):
            yield node
        elif isinstance(node, ast.ClassDef | ast.If | ast.Try | ast.With):
            yield from _outermost(node)


def _function(node: _Definition, lines: Sequence[str], root: Path, path: str) -> Function | None:
    docstring = ast.get_docstring(node)
    if not docstring or "test" in node.name.lower() or node.name.startswith("__"):
        return None
    documented, *rest = node.body
    end = node.end_lineno or 0
    last = documented.end_lineno or 0
    # What shares a line with the docstring would go with it.
    alone = documented.lineno > node.lineno and (not rest or rest[0].lineno > last)
    if not alone or all(map(_says_nothing, rest)):
        return None
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    source = [*lines[first - 1 : documented.lineno - 1], *lines[last:end]]
    if sum(bool(line.strip()) for line in source) < LINES_MIN:
        return None
    return Function(
        package=name_of(root),
        path=path,
        first=first,
        last=end,
        name=node.name,
        source="\n".join(source),
        docstring=docstring,
        body=_digest(lines[last:end]),
    )


def _says_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Raise(exc=ast.Name(id=name) | ast.Call(func=ast.Name(id=name))):
            return name == "NotImplementedError"
        case _:
            return False


def _digest(lines: Sequence[str]) -> bytes:
    stripped = (line.strip() for line in lines)
    return hashlib.sha256("\n".join(filter(None, stripped)).encode()).digest()
