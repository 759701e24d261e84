"""Editing TOML as text: one table is added at the end, or taken out, and nothing else changes.

Codex writes its config.toml anew when it changes it and drops comments, so no mark of ours would last:
a table is known by its name. Every edit is proved by parsing: the document must be the one before plus
or minus that table.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

Table: TypeAlias = Mapping[str, "str | list[str] | Table"]
"""Text by name, and further tables below."""

_HEADER: Final = re.compile(r"^[ \t]*\[", re.MULTILINE)
_POSITION: Final = re.compile(r"\(at line (\d+), column (\d+)\)")


class TomlProblem(Exception):
    """Text that is not to be edited, with line and column of what is wrong with it, both from 1."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.column = column


def parse(text: str) -> dict[str, Any]:
    """The document. Raises TomlProblem."""
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        found = _POSITION.search(str(error))
        line, column = (int(found[1]), int(found[2])) if found else (text.count("\n") + 1, 1)
        raise TomlProblem(_POSITION.sub("", str(error)).strip(), line, column) from None
    except RecursionError:
        raise TomlProblem("nested too deeply", 1, 1) from None


def add_table(text: str, path: Sequence[str], values: Table) -> str:
    """The text with a table at its end, and those below it. Raises TomlProblem if it cannot be there."""
    newline = "\r\n" if "\r\n" in text else "\n"
    table = newline.join([*_lines(path, values), ""])
    gap = "" if not text else newline if text.endswith("\n") else newline * 2
    result = text + gap + table
    wanted = parse(text)
    holder = wanted
    for key in path[:-1]:
        holder = holder.setdefault(key, {})
        if not isinstance(holder, dict):
            break
    else:
        if path[-1] not in holder:
            holder[path[-1]] = dict(values)
            if _parses_to(result, wanted, path):
                return result
    raise TomlProblem(
        f"no table [{_name(path)}] can be added: {path[0]} is written in another form",
        text.count("\n") + 1,
        1,
    )


def remove_table(text: str, path: Sequence[str]) -> str:
    """The text without a table and the tables below it. Raises TomlProblem if it is not one."""
    wanted = parse(text)
    _drop(wanted, path)
    result = text
    for start, end in reversed(_tables(text, path)):
        result = _without(result, start, end)
    if not _parses_to(result, wanted, path):
        line = 1 + text[: text.find(path[-1])].count("\n")
        raise TomlProblem(f"{_name(path)} is not written as a table of its own", line, 1)
    return result


def _lines(path: Sequence[str], values: Table) -> Iterator[str]:
    """A table and those below it; one that holds only others needs no header."""
    own = {key: one for key, one in values.items() if not isinstance(one, Mapping)}
    if own or not values:
        yield f"[{_name(path)}]"
        yield from (f"{key} = {_literal(one)}" for key, one in own.items())
    for key, one in values.items():
        if isinstance(one, Mapping):
            yield from _lines((*path, key), one)


def _parses_to(text: str, wanted: dict[str, Any], path: Sequence[str]) -> bool:
    """Whether the text says just that, whether or not tables above `path` are there and empty."""
    try:
        found = parse(text)
    except TomlProblem:
        return False
    for document in (found, wanted):
        for depth in range(len(path) - 1, 0, -1):
            _drop_empty(document, path[:depth])
    return found == wanted


def _tables(text: str, path: Sequence[str]) -> list[tuple[int, int]]:
    """Where the table and those below it stand, each up to the next one's header."""
    starts = [found.start() for found in _HEADER.finditer(text)]
    found = []
    for index, start in enumerate(starts):
        names = _header(text[start:].partition("\n")[0])
        if names[: len(path)] == list(path) and _is_between(text, start):
            later = (one for one in starts[index + 1 :] if _is_between(text, one))
            found.append((start, next(later, len(text))))
    return found


def _is_between(text: str, at: int) -> bool:
    """Whether an offset is inside of no value: text over several lines may look like a header."""
    try:
        parse(text[:at])
    except TomlProblem:
        return False
    return True


def _header(line: str) -> list[str]:
    """The names in the header of a table; none if the line is something else."""
    try:
        found = tomllib.loads(line.strip())
    except tomllib.TOMLDecodeError:
        return []
    names: list[str] = []
    while isinstance(found, dict) and len(found) == 1:
        name, found = next(iter(found.items()))
        names.append(name)
    return names


def _without(text: str, start: int, end: int) -> str:
    """The text without a table; what its neighbour wrote above its own header stays."""
    lines = text[start:end].splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    before, after = text[:start], text[start + sum(map(len, lines)) :]
    # The empty line that parts it from its neighbour goes as well: the one below, or at the end of
    # the document the one above.
    if after.strip():
        return before + re.sub(r"\A\r?\n", "", after)
    return re.sub(r"(\A|\n)\r?\n\Z", r"\1", before) + after


def _drop(document: dict[str, Any], path: Sequence[str]) -> None:
    for key in path[:-1]:
        document = document[key]
    del document[path[-1]]


def _drop_empty(document: dict[str, Any], path: Sequence[str]) -> None:
    for key in path[:-1]:
        document = document.get(key, {})
    if document.get(path[-1]) == {}:
        del document[path[-1]]


def _name(path: Sequence[str]) -> str:
    return ".".join(one if re.fullmatch(r"[A-Za-z0-9_-]+", one) else _literal(one) for one in path)


def _literal(value: str | list[str]) -> str:
    """Text, or a list of it, as TOML: JSON's escapes are among those of TOML."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
