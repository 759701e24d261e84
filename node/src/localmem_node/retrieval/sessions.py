"""What was before and after an event in its session: neighbours tell what it is about.

Events of a session are linked in `Event.order`, so that what arrives late from another device takes
its place. An event without a session has no neighbours.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.slots import grown

NOBODY: Final = -1

BEFORE: Final = 0
AFTER: Final = 1
PROMPT: Final = 2
NUMBER: Final = 3

Links = npt.NDArray[np.int64]


class Sessions:
    """Per slot: who is `before` and `after` it, the last `prompt` before it, its session's `number`.

    NOBODY where there is none. Not thread-safe.
    """

    def __init__(self) -> None:
        # One more than the neighbours themselves, so that zeros mean nobody in what is grown.
        self._links = np.zeros((4, 0), np.int64)
        self._is_prompt = np.zeros(0, np.bool_)
        self._numbers: dict[str, int] = {}
        self._last: dict[int, tuple[str, int]] = {}  # by number: label, last slot
        self._next_number = 0

    @property
    def empty(self) -> bool:
        """Whether no event has a session."""
        return not self._last

    def neighbours(self, slots: npt.NDArray[np.int64], *, which: int) -> Links:
        """The neighbours of some slots, NOBODY for NOBODY: BEFORE, AFTER or PROMPT."""
        found: Links = self._links[which, slots] - 1
        found[slots < 0] = NOBODY
        return found

    def links(self, slots: npt.NDArray[np.int64]) -> Links:
        """(4, slots): who is BEFORE and AFTER some slots, their PROMPT, their session's NUMBER."""
        found: Links = self._links.take(slots, axis=1)
        found -= 1
        return found

    def add(
        self, slot: int, label: str | None, newness: npt.NDArray[np.uint64], *, is_prompt: bool
    ) -> None:
        """Put a slot into its session. `newness`: (3, slots), the order of events, this one's too."""
        self._links = grown(self._links, slot + 1)
        self._is_prompt = grown(self._is_prompt, slot + 1)
        if label is None:
            return
        number = self._numbers.get(label)
        if number is None:
            number = self._numbers[label] = self._next_number
            self._next_number += 1
            self._last[number] = (label, NOBODY)
        self._links[NUMBER, slot] = number + 1
        self._is_prompt[slot] = is_prompt
        before = self._last[number][1]
        after = NOBODY
        key = tuple(newness[:, slot])
        while before != NOBODY and tuple(newness[:, before]) > key:
            before, after = int(self._links[BEFORE, before]) - 1, before
        self._join(before, slot)
        self._join(slot, after)
        self._links[PROMPT, slot] = self._prompt_for_next(before) + 1
        if after == NOBODY:
            self._last[number] = (label, slot)
        elif is_prompt:
            self._pass_on(slot)

    def remove(self, slot: int) -> None:
        """Take a slot out; one without a session is ignored."""
        if slot >= self._links.shape[1] or not self._links[NUMBER, slot]:
            return
        before, after = (int(self._links[which, slot]) - 1 for which in (BEFORE, AFTER))
        number = int(self._links[NUMBER, slot]) - 1
        self._join(before, after)
        if after == NOBODY:
            label, _ = self._last[number]
            self._last[number] = (label, before)
            if before == NOBODY:
                del self._last[number], self._numbers[label]
        elif self._is_prompt[slot]:
            self._links[PROMPT, after] = self._links[PROMPT, slot]
            self._pass_on(after)
        self._links[:, slot] = 0
        self._is_prompt[slot] = False

    def labels(self, slots: npt.NDArray[np.int64]) -> tuple[list[str], npt.NDArray[np.int64]]:
        """For saving: the labels that these slots have, and for each slot its place there, or -1."""
        numbers, places = np.unique(self._links[NUMBER, slots] - 1, return_inverse=True)
        labels = [self._last[int(number)][0] for number in numbers if number != NOBODY]
        return labels, places - int(len(numbers) > 0 and numbers[0] == NOBODY)

    @classmethod
    def load(
        cls,
        slots: npt.NDArray[np.int64],
        labels: list[str],
        places: npt.NDArray[np.int64],
        is_prompt: npt.NDArray[np.bool_],
        newness: npt.NDArray[np.uint64],
    ) -> Sessions:
        """What was saved by `labels`; `newness`: (3, slots in use)."""
        sessions = cls()
        width = int(slots.max(initial=-1)) + 1
        sessions._links = grown(sessions._links, width)
        sessions._is_prompt = grown(sessions._is_prompt, width)
        sessions._numbers = {label: number for number, label in enumerate(labels)}
        sessions._next_number = len(labels)
        sessions._links[NUMBER, slots] = places + 1
        sessions._is_prompt[slots] = is_prompt
        members = slots[places >= 0]
        numbers = places[places >= 0]
        ordered = np.lexsort((*newness[::-1, members], numbers))
        members, numbers = members[ordered], numbers[ordered]
        same = numbers[1:] == numbers[:-1]
        sessions._links[BEFORE, members[1:][same]] = members[:-1][same] + 1
        sessions._links[AFTER, members[:-1][same]] = members[1:][same] + 1
        for number, slot in zip(numbers.tolist(), members.tolist(), strict=True):
            sessions._last[number] = (labels[number], slot)
        for slot in members.tolist():
            before = int(sessions._links[BEFORE, slot]) - 1
            sessions._links[PROMPT, slot] = sessions._prompt_for_next(before) + 1
        return sessions

    def _join(self, before: int, after: int) -> None:
        if before != NOBODY:
            self._links[AFTER, before] = after + 1
        if after != NOBODY:
            self._links[BEFORE, after] = before + 1

    def _prompt_for_next(self, slot: int) -> int:
        """The prompt that governs what comes after a slot."""
        if slot == NOBODY or self._is_prompt[slot]:
            return slot
        return int(self._links[PROMPT, slot]) - 1

    def _pass_on(self, slot: int) -> None:
        """What comes after a slot, up to the next prompt, has the prompt that follows from it."""
        prompt = self._prompt_for_next(slot)
        after = int(self._links[AFTER, slot]) - 1
        while after != NOBODY:
            self._links[PROMPT, after] = prompt + 1
            if self._is_prompt[after]:
                return
            after = int(self._links[AFTER, after]) - 1
