"""Editing JSON as text: a change touches its own bytes and no others.

Settings belong to their user, who sees every reformatted line in a diff. So a document is not parsed
and written anew: the place of a change is found, and text is cut out or put in there, in the style of
what stands around it. The parser of the standard library says where values end; only the levels on the
way to a change are walked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

DEFAULT_INDENT: Final = "  "

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_CONSTANT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<constant>-?Infinity|NaN)')
_COMMENTS: Final = ("//", "/*", "#")


class JsonProblem(Exception):
    """Text that is not to be edited; `at` is the offset of what is wrong with it."""

    def __init__(self, problem: str, at: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.at = at


@dataclass(frozen=True, slots=True)
class Child:
    """A member of an object or an item of an array: where it begins, and where its value stands.

    `start` is the offset of the key, or of the value where there is none; `end` is behind the value.
    """

    key: str | None
    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class Style:
    """How a document is written: on one line, or with this indentation and these line ends."""

    multiline: bool
    indent: str
    newline: str
    spaced: bool


def parse(text: str) -> Any:
    """The value of a document; an empty one is an empty object, as editors take it.

    Raises JsonProblem for comments, trailing commas, constants that JSON has not, and other errors.
    """
    if not text.strip(" \t\r\n"):
        return {}
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise JsonProblem(_reason(text, error), error.pos) from None
    except JsonProblem as error:
        found = next(one for one in _CONSTANT.finditer(text) if one["constant"])
        raise JsonProblem(error.problem, found.start()) from None
    except RecursionError:
        raise JsonProblem("nested too deeply", 0) from None


def position(text: str, at: int) -> tuple[int, int]:
    """Line and column of an offset, both from 1."""
    before = text[:at]
    return before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1


def children(text: str, at: int) -> list[Child]:
    """The members or items of the container at this offset of a document that parses."""
    closing = {"{": "}", "[": "]"}[text[at]]
    found = []
    at = _skip(text, at + 1)
    while text[at] != closing:
        start, key = at, None
        if closing == "}":
            key, at = _value(text, at)
            at = _skip(text, _skip(text, at) + 1)
        end = _value(text, at)[1]
        found.append(Child(key, start, at, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def locate(text: str, path: Sequence[str | int]) -> int | None:
    """The offset of the value at `path`; None if there is none.

    Raises JsonProblem where the path leads through a key that is there twice (editors differ in
    which one they take) or through something that is no container of its kind.
    """
    at = _skip(text, 0)
    if at == len(text):
        return None
    for depth, name in enumerate(path):
        wanted = "{" if isinstance(name, str) else "["
        if text[at] != wanted:
            where = ".".join(str(one) for one in path[:depth]) or "the document"
            kind = "an object" if wanted == "{" else "a list"
            raise JsonProblem(f"{where} is not {kind}", at)
        found = children(text, at)
        if isinstance(name, int):
            if not 0 <= name < len(found):
                return None
            at = found[name].value
            continue
        same = [one for one in found if one.key == name]
        if len(same) > 1:
            raise JsonProblem(f"the key {name!r} is there twice", same[1].start)
        if not same:
            return None
        at = same[0].value
    return at


def set_member(text: str, path: Sequence[str], value: object) -> str:
    """The text with `value` at `path`, in place of what is there; objects on the way are made."""
    style = style_of(text)
    if locate(text, ()) is None:
        for key in reversed(path):
            value = {key: value}
        return _dump(value, style, "") + style.newline
    for depth in range(len(path)):
        at = locate(text, path[: depth + 1])
        if at is None:
            holder = locate(text, path[:depth])
            assert holder is not None
            for key in reversed(path[depth + 1 :]):
                value = {key: value}
            return _append(text, holder, path[depth], value, style)
    at = locate(text, path)
    assert at is not None
    return text[:at] + _dump(value, style, _indent_at(text, at)) + text[_value(text, at)[1] :]


def append_item(text: str, path: Sequence[str], value: object) -> str:
    """The text with `value` as last item of the list at `path`, which is made if missing."""
    at = locate(text, path)
    if at is None:
        return set_member(text, path, [value])
    if text[at] != "[":
        raise JsonProblem(f"{'.'.join(path)} is not a list", at)
    return _append(text, at, None, value, style_of(text))


def remove(text: str, path: Sequence[str | int]) -> str:
    """The text without the member or item at `path`, which is there, and once."""
    assert locate(text, path) is not None
    holder = locate(text, path[:-1])
    assert holder is not None
    found = children(text, holder)
    last = path[-1]
    index = last if isinstance(last, int) else [one.key for one in found].index(last)
    if len(found) == 1:
        return text[: holder + 1] + text[_value(text, holder)[1] - 1 :]
    if index:
        return text[: found[index - 1].end] + text[found[index].end :]
    return text[: found[0].start] + text[found[1].start :]


def style_of(text: str) -> Style:
    """How a document is written, by its first lines and its first member."""
    newline = "\r\n" if "\r\n" in text else "\n"
    at = _skip(text, 0)
    if at == len(text):
        return Style(multiline=True, indent=DEFAULT_INDENT, newline=newline, spaced=True)
    found = children(text, at) if text[at] in "{[" else []
    if not found:
        return Style(multiline=True, indent=DEFAULT_INDENT, newline=newline, spaced=True)
    first = found[0]
    lead = text[at + 1 : first.start]
    indent = lead.rpartition("\n")[2] if "\n" in lead else DEFAULT_INDENT
    between = text[first.start : first.value]
    spaced = "\n" in lead or first.key is None or between[-1] in " \t"
    return Style("\n" in lead, indent or DEFAULT_INDENT, newline, spaced)


def _append(text: str, at: int, key: str | None, value: object, style: Style) -> str:
    """The text with one more child, the last one, in the container at this offset."""
    found = children(text, at)
    name = "" if key is None else _dump_flat(key, style) + (": " if style.spaced else ":")
    if not found:
        end = _value(text, at)[1] - 1
        if not style.multiline:
            return text[: at + 1] + name + _dump_flat(value, style) + text[end:]
        outer = _indent_at(text, at)
        inner = outer + style.indent
        child = name + _dump(value, style, inner)
        return f"{text[: at + 1]}{style.newline}{inner}{child}{style.newline}{outer}{text[end:]}"
    last = found[-1]
    lead = text[at + 1 : found[0].start]
    if "\n" not in lead:
        gap = ", " if style.spaced else ","
        return text[: last.end] + gap + name + _dump_flat(value, style) + text[last.end :]
    indent = lead.rpartition("\n")[2]
    child = name + _dump(value, style, indent)
    return f"{text[: last.end]},{style.newline}{indent}{child}{text[last.end :]}"


def _dump(value: object, style: Style, indent: str) -> str:
    """A value over several lines, the first of which is indented already."""
    if not style.multiline:
        return _dump_flat(value, style)
    text = json.dumps(value, ensure_ascii=False, indent=style.indent)
    return text.replace("\n", style.newline + indent)


def _dump_flat(value: object, style: Style) -> str:
    separators = (", ", ": ") if style.spaced else (",", ":")
    return json.dumps(value, ensure_ascii=False, separators=separators)


def _indent_at(text: str, at: int) -> str:
    """The white space that the line of this offset begins with."""
    start = text.rfind("\n", 0, at) + 1
    return text[start : _blank(text, start)]


def _blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t":
        at += 1
    return at


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _value(text: str, at: int) -> tuple[Any, int]:
    return _DECODER.raw_decode(text, at)


def _refuse_constant(name: str) -> Iterator[None]:
    raise JsonProblem(f"{name} is no JSON", 0)


def _reason(text: str, error: json.JSONDecodeError) -> str:
    rest = text[error.pos :].lstrip(" \t\r\n,")
    if rest.startswith(_COMMENTS):
        return "a comment, which is no JSON"
    if rest[:1] in ("}", "]") and text[: error.pos + 1].rstrip(" \t\r\n}]").endswith(","):
        return "a comma with nothing behind it"
    return f"{error.msg[:1].lower()}{error.msg[1:]}"


_DECODER: Final = json.JSONDecoder()
