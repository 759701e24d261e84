"""What a device decides about its pool's roster: what a hub lacks, and which document comes next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from localmem_protocol.chain import Tip
from localmem_protocol.errors import ForkError
from localmem_protocol.past_epochs import PAST_FIRST_S
from localmem_protocol.roster import Author, admit, encode_entry, rotate
from localmem_protocol.roster_view import RosterView, Route, Stop
from support.pool_members import NOW, ONE, TWO, Team


class Known:
    """Device TWO's view of a team's roster, which `do` makes longer."""

    def __init__(self) -> None:
        self.team = Team()
        self.do(admit, device=TWO, keys=self.team.keys[TWO].public, role="member")
        self.view = RosterView(self.team.pool, TWO, self.team.keys[TWO])
        self.learn()

    def do(self, make: Callable[..., Any], **more: Any) -> None:
        team = self.team
        entry = make(team.roster, Author(ONE, team.keys[ONE]), team.random, NOW, **more)
        team.roster.apply(entry)
        team.entries.append(encode_entry(entry))

    def learn(self) -> None:
        self.view.learn(self.team.entries[self.view.length :])

    @property
    def tip(self) -> Tip:
        return Tip(self.team.roster.length, self.team.roster.head)


def test_a_hub_that_was_put_back_lacks_what_came_since() -> None:
    known = Known()
    before = known.tip
    assert known.view.lacking(before) == []
    known.do(rotate)
    assert known.view.lacking(known.tip) == ()  # it has more: that is to be learned
    known.learn()
    assert known.view.lacking(before) == known.team.entries[-1:]
    assert known.view.lacking(known.tip) == []


def test_a_hub_with_another_history_is_refused() -> None:
    known = Known()
    for length in (1, known.view.length):
        with pytest.raises(ForkError):
            known.view.lacking(Tip(length, bytes(32)))


def test_an_epoch_that_cannot_be_read_is_put_off_and_in_nobodys_way() -> None:
    known = Known()
    known.do(rotate)
    known.do(rotate)
    known.learn()
    route = Route(known.view)

    def goes(read: set[int], now_s: float) -> tuple[int, bool]:
        stop = route.next(read, now_s)
        assert isinstance(stop, Stop)
        return stop.key.epoch, stop.past

    assert goes(set(), 0) == (1, True)
    route.put_off(1, "no answer", 0)
    assert goes(set(), 1) == (3, False)
    assert (route.past_due_s(1), route.unread()) == (PAST_FIRST_S - 1, {1: "no answer", 2: None})
    assert goes(set(), PAST_FIRST_S) == (2, True)  # it failed less often
    route.finished(2)
    assert goes({2}, PAST_FIRST_S) == (1, True)
    route.finished(1)
    assert (route.unread(), route.past_due_s(PAST_FIRST_S)) == ({}, None)
    assert goes({1, 2}, PAST_FIRST_S) == (3, False)
