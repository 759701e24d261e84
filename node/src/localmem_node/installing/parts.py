"""What is ours in a file of settings: put in, found again, taken out. Pure, on text.

Every part answers four questions about a text: does it hold just what is wanted, what would it be with
it, what without it, and is there nothing else in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, Protocol

from localmem_node.installing import json_text, toml_text
from localmem_node.installing.hooks import Hooks, handlers

SERVER: Final = "localmem"
SERVER_PROGRAM: Final = "localmem-mcp"


class Refused(Exception):
    """A text that is not to be touched, with line and column of the reason, both from 1."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.column = column


class Part(Protocol):
    """Ours in one file. Every method raises Refused."""

    @property
    def whole(self) -> bool:
        """Whether the file is ours or not at all."""
        ...

    def holds(self, text: str) -> bool:
        """Whether it has what is wanted, and nothing else of ours."""
        ...

    def added(self, text: str) -> str:
        """The text with ours; there is nothing of ours in it."""
        ...

    def removed(self, text: str, before: str | None) -> str:
        """The text without ours. `before` is what it was once: what was empty there may stay so."""
        ...

    def is_bare(self, text: str) -> bool:
        """Whether nothing is left that anyone would miss."""
        ...


def _json(text: str, edit: Callable[[str], str]) -> str:
    try:
        if not isinstance(json_text.parse(text), dict):
            raise json_text.JsonProblem("the document is not an object", 0)
        return edit(text)
    except json_text.JsonProblem as error:
        raise Refused(error.problem, *json_text.position(text, error.at)) from None


def _document(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def keep(text: str) -> str:
        found.update(json_text.parse(text))
        return text

    _json(text, keep)
    return found


def _lookup(document: object, path: Sequence[str]) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


@dataclass(frozen=True, slots=True)
class HooksPart:
    """Hooks by event. `fixed` are members that the file must have beside them."""

    wanted: Hooks
    fixed: Mapping[str, object] = field(default_factory=dict)
    whole: bool = False

    def holds(self, text: str) -> bool:
        """See Part."""
        document = _document(text)
        found = [
            (path[:2], handler, _lookup_group(document, path))
            for path, handler in handlers(document)
        ]
        wanted = [
            (path[:2], handler, _lookup_group({"hooks": self.wanted}, path))
            for path, handler in handlers({"hooks": self.wanted})
        ]
        missing = [one for one in wanted if one not in found]
        return len(found) == len(wanted) and not missing

    def added(self, text: str) -> str:
        """See Part."""

        def edit(text: str) -> str:
            for name, value in self.fixed.items():
                if json_text.locate(text, (name,)) is None:
                    text = json_text.set_member(text, (name,), value)
            for event, entries in self.wanted.items():
                for entry in entries:
                    text = json_text.append_item(text, ("hooks", event), entry)
            return text

        return _json(text, edit)

    def removed(self, text: str, before: str | None) -> str:
        """See Part."""
        once = _document(before) if before is not None else {}

        def edit(text: str) -> str:
            while (
                path := next((path for path, _ in handlers(json_text.parse(text))), None)
            ) is not None:
                text = _cut(text, path, once)
            return text

        text = _json(text, edit)
        added = [name for name in self.fixed if before is not None and name not in once]
        for name in added:
            if _document(text).get(name) == self.fixed[name]:
                text = json_text.remove(text, (name,))
        return text

    def is_bare(self, text: str) -> bool:
        """See Part."""
        document = _document(text)
        return all(self.fixed.get(name) == value for name, value in document.items())


def _lookup_group(document: Mapping[str, Any], path: Sequence[str | int]) -> object:
    """The matcher of the group that a handler is in."""
    group: Any = document
    for step in path[:3]:
        group = group[step]
    return group.get("matcher") if len(path) > 3 else None


def _cut(text: str, path: tuple[str | int, ...], once: Mapping[str, Any]) -> str:
    """The text without a handler, and without what held nothing else and was not there once."""
    text = json_text.remove(text, path)
    if len(path) > 3:  # ("hooks", event, group, "hooks", place)
        if _has_children(text, path[:4]):
            return text
        text = json_text.remove(text, path[:3])
    for depth in (2, 1):
        above = [str(one) for one in path[:depth]]
        if _has_children(text, above) or _lookup(once, above) is not None:
            return text
        text = json_text.remove(text, above)
    return text


def _has_children(text: str, path: Sequence[str | int]) -> bool:
    at = json_text.locate(text, path)
    assert at is not None
    return bool(json_text.children(text, at))


@dataclass(frozen=True, slots=True)
class ServerPart:
    """The MCP server in a file of JSON, below `path`."""

    path: tuple[str, ...]
    value: Mapping[str, object]
    whole: bool = False

    def holds(self, text: str) -> bool:
        """See Part."""
        return _includes(_lookup(_document(text), (*self.path, SERVER)), self.value)

    def added(self, text: str) -> str:
        """See Part."""
        path = (*self.path, SERVER)
        if _lookup(_document(text), path) is not None:
            at = json_text.locate(text, path)
            assert at is not None
            raise Refused(_FOREIGN, *json_text.position(text, at))
        return _json(text, lambda text: json_text.set_member(text, path, dict(self.value)))

    def removed(self, text: str, before: str | None) -> str:
        """See Part."""
        document = _document(text)
        if not is_our_server(_lookup(document, (*self.path, SERVER))):
            return text
        once = _document(before) if before is not None else {}

        def edit(text: str) -> str:
            text = json_text.remove(text, (*self.path, SERVER))
            for depth in range(len(self.path), 0, -1):
                path = self.path[:depth]
                if _has_children(text, path) or _lookup(once, path) is not None:
                    break
                text = json_text.remove(text, path)
            return text

        return _json(text, edit)

    def is_bare(self, text: str) -> bool:
        """See Part."""
        return not _document(text)


@dataclass(frozen=True, slots=True)
class TomlServerPart:
    """The MCP server in the config.toml of Codex, and what Codex noted there of our hooks."""

    values: toml_text.Table
    states: frozenset[str] = frozenset()
    """The names in `hooks.state` that go when the hooks go."""
    whole: bool = False

    def holds(self, text: str) -> bool:
        """See Part."""
        return _includes(_lookup(_toml(text), ("mcp_servers", SERVER)), self.values)

    def added(self, text: str) -> str:
        """See Part."""
        if _lookup(_toml(text), ("mcp_servers", SERVER)) is not None:
            line = 1 + text[: max(text.find(SERVER), 0)].count("\n")
            raise Refused(_FOREIGN, line, 1)
        return _toml_edit(lambda: toml_text.add_table(text, ("mcp_servers", SERVER), self.values))

    def removed(self, text: str, before: str | None) -> str:
        """See Part."""
        if is_our_server(_lookup(_toml(text), ("mcp_servers", SERVER))):
            text = _without_table(text, ("mcp_servers", SERVER))
        for name in self.states & set(_lookup(_toml(text), ("hooks", "state")) or ()):
            text = _without_table(text, ("hooks", "state", name))
            if _lookup(_toml(text), ("hooks", "state")) == {}:
                text = _without_table(text, ("hooks", "state"))
        return text

    def is_bare(self, text: str) -> bool:
        """See Part."""
        return not text.strip()


def _without_table(text: str, path: Sequence[str]) -> str:
    return _toml_edit(lambda: toml_text.remove_table(text, path))


def _toml(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    _toml_edit(lambda: found.update(toml_text.parse(text)) or "")
    return found


def _toml_edit(edit: Callable[[], str]) -> str:
    try:
        return edit()
    except toml_text.TomlProblem as error:
        raise Refused(error.problem, error.line, error.column) from None


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file that is ours as a whole. One that the user has rewritten is the user's."""

    text: str
    whole: bool = True

    def holds(self, text: str) -> bool:
        """See Part."""
        return text == self.text

    def added(self, text: str) -> str:
        """See Part."""
        return self.text

    def removed(self, text: str, before: str | None) -> str:
        """See Part."""
        return "" if text == self.text else text

    def is_bare(self, text: str) -> bool:
        """See Part."""
        return not text.strip()


def _includes(found: object, wanted: Mapping[str, object]) -> bool:
    """Whether a server has what is wanted; what the user added to it is the user's."""
    return isinstance(found, Mapping) and all(
        found.get(key) == value for key, value in wanted.items()
    )


def is_our_server(entry: object) -> bool:
    """Whether an MCP server is the one that install wrote, of whatever version, from wherever."""
    command = entry.get("command") if isinstance(entry, Mapping) else None
    return isinstance(command, str) and PurePath(command).name == SERVER_PROGRAM


_FOREIGN: Final = f"an MCP server of another kind is called {SERVER!r}; give it another name"
