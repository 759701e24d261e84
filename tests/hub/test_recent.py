"""Who is let in is looked up once a second, where each look is paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from localmem_hub.errors import LengthError, TokenError
from localmem_hub.limits import REACH_SECONDS
from localmem_hub.recent import KEPT_MAX, RecentRosters, RecentTokens
from localmem_hub.seams import Identity, RosterMark
from localmem_hub.store import SqlStore
from localmem_protocol.simulation import SeededRandom
from support.hub_store import open_store
from support.served_hub import HandClock

ONE, TWO = f"{1:016x}", f"{2:016x}"
SECOND_MS = int(1000 * REACH_SECONDS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    made = open_store(tmp_path, "team")
    yield made
    made.close()


class Counted:
    """Passes calls on, and counts them."""

    def __init__(self, inner: object) -> None:
        self.inner = inner
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> object:
        self.calls[name] += 1
        return getattr(self.inner, name)


def test_a_token_is_looked_up_once_a_second(store: SqlStore) -> None:
    clock, counted = HandClock(), Counted(store.tokens)
    tokens = RecentTokens(counted, clock)  # type: ignore[arg-type]
    text = store.tokens.create("team", ONE, "writer", SeededRandom(1), clock.ms).text
    first = tokens.check(text, "team", ONE, clock.ms)
    assert first.fresh
    assert not tokens.check(text, "team", ONE, clock.ms).fresh  # noted once
    clock.ms += SECOND_MS - 1
    tokens.check(text, "team", ONE, clock.ms)
    assert counted.calls["check"] == 1
    clock.ms += 1
    tokens.check(text, "team", ONE, clock.ms)
    assert counted.calls["check"] == 2


def test_a_revoked_token_is_good_for_a_second_at_most(store: SqlStore) -> None:
    clock = HandClock()
    tokens = RecentTokens(store.tokens, clock)
    token = store.tokens.create("team", ONE, "writer", SeededRandom(1), clock.ms)
    tokens.check(token.text, "team", ONE, clock.ms)
    store.tokens.revoke(token.id, clock.ms)
    clock.ms += SECOND_MS
    with pytest.raises(TokenError):
        tokens.check(token.text, "team", ONE, clock.ms)


def test_a_revocation_that_is_seen_counts_at_once(store: SqlStore) -> None:
    clock = HandClock()
    tokens = RecentTokens(store.tokens, clock)
    token = store.tokens.create("team", ONE, "writer", SeededRandom(1), clock.ms)
    tokens.check(token.text, "team", ONE, clock.ms)
    store.tokens.revoke(token.id, clock.ms)
    assert tokens.revoked([token.id]) == {token.id}
    with pytest.raises(TokenError):
        tokens.check(token.text, "team", ONE, clock.ms)


def test_a_token_that_expires_meanwhile_is_over(store: SqlStore) -> None:
    clock = HandClock()
    tokens = RecentTokens(store.tokens, clock)
    token = store.tokens.create("team", ONE, "writer", SeededRandom(1), clock.ms, days=1)
    day_ms = 24 * 3600 * 1000
    tokens.check(token.text, "team", ONE, clock.ms + day_ms - 1)
    with pytest.raises(TokenError):
        tokens.check(token.text, "team", ONE, clock.ms + day_ms)


def test_nobodys_token_is_that_of_the_first_device_alone(store: SqlStore) -> None:
    clock = HandClock()
    tokens = RecentTokens(store.tokens, clock)
    text = store.tokens.create("team", None, "writer", SeededRandom(1), clock.ms).text
    first = tokens.check(text, "team", ONE, clock.ms)
    tokens.check(text, "team", TWO, clock.ms)
    tokens.note(first, clock.ms)
    with pytest.raises(TokenError):
        tokens.check(text, "team", TWO, clock.ms)


def test_only_so_many_answers_are_kept() -> None:
    clock = HandClock()

    class All:
        def check(self, text: str, pool: str, device: str, now_ms: int, *, kind: str) -> Identity:
            return Identity(text, pool, device, "writer")

    tokens = RecentTokens(All(), clock)  # type: ignore[arg-type]
    for number in range(KEPT_MAX + 10):
        tokens.check(str(number), "team", ONE, clock.ms)
    assert len(tokens._recent._kept) == KEPT_MAX


def test_a_roster_is_looked_at_once_a_second_and_at_once_after_a_change_here(
    store: SqlStore,
) -> None:
    clock, counted = HandClock(), Counted(store.rosters)
    rosters = RecentRosters(counted, clock)  # type: ignore[arg-type]
    pool, first = "0" * 32, RosterMark(1, bytes(32))
    assert rosters.mark(pool) is None
    assert rosters.found(pool, b"entry", first, "00", None, clock.ms)
    assert rosters.mark(pool) == rosters.mark(pool) == first
    assert counted.calls["mark"] == 2
    second = RosterMark(2, bytes([1]) * 32)
    rosters.append(pool, b"more", second, 1, clock.ms)
    assert rosters.mark(pool) == second
    with pytest.raises(LengthError):
        rosters.append(pool, b"other", second, 1, clock.ms)
    assert rosters.mark(pool) == second
    third = RosterMark(3, bytes([2]) * 32)
    store.rosters.append(pool, b"elsewhere", third, 1, clock.ms)
    assert rosters.mark(pool) == second
    assert rosters.read(pool, 2, 1 << 20) == [b"elsewhere"]
    assert rosters.mark(pool) == third
    clock.ms += SECOND_MS
    assert rosters.mark(pool) == third
    assert counted.calls["mark"] == 6
    assert rosters.recovered("00", 5) == [pool]
