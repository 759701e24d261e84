"""Checkouts of a repository, for pools that send references: every device has a part of its texts.

What was written anywhere stands in one `Repository`. Which of it is in a commit, and which of that a
device has, follows from the text and a seed, so that it is the same in every run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from localmem_protocol.events import Event
from localmem_protocol.references import Reference

COMMITTED: Final = 12
HERE: Final = 8
"""Of 16 texts, how many are in a commit, and how many of those a device has."""

Lines = tuple[str, tuple[int, int]]


@dataclass
class Repository:
    """What stands where."""

    texts: dict[Lines, str] = field(default_factory=dict)

    def place(self, text: str) -> dict[str, object]:
        """Somewhere for a text: the fields of a draft."""
        path, lines = f"src/module_{len(self.texts)}.py", (1, 1 + text.count("\n"))
        self.texts[path, lines] = text
        return {"filePath": path, "selectionRange": list(lines)}


class Checkout:
    """Implements `references.Texts` for a device."""

    def __init__(self, repository: Repository, device: str) -> None:
        self._repository = repository
        self._device = device

    def texts(self, reference: Reference) -> Iterator[str]:
        """Something else, and the text if it is in this checkout."""
        text = self._repository.texts.get((reference.file_path, reference.selection_range), "")
        yield f"another {text}"
        if text and _drawn(f"{self._device} {text}") < HERE:
            yield text

    def shared(self, events: Sequence[Event]) -> Collection[str]:
        """Those that are in a commit."""
        return {event.id for event in events if _drawn(event.snippet) < COMMITTED}


def _drawn(text: str) -> int:
    """0 to 15."""
    return blake2b(text.encode(), digest_size=1).digest()[0] % 16
