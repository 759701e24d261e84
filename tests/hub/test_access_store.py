"""Secrets, challenges, rosters and mailboxes in SQL: what holds when several write at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_hub.errors import AdmissionError, CommitError, LengthError, TokenError
from localmem_hub.seams import RosterMark
from localmem_hub.session_tokens import TEXT_CHARS_MAX, Mint
from localmem_hub.system import SystemRandom
from localmem_protocol.entries import entry_hash
from localmem_protocol.simulation import SeededRandom
from support.hub_databases import AnyStore, OpenAnyStore
from support.pool_members import NOW, ONE, THREE, TWO, Team


@pytest.fixture
def store(open_any_stores: OpenAnyStore) -> AnyStore:
    return open_any_stores()


def at_once(calls: list[Callable[[], object]]) -> list[object]:
    """What these calls return, or raise, in threads of their own."""
    results: list[object] = []
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        together.wait()
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_secret_is_drawn_once_whoever_asks_first(store: AnyStore) -> None:
    drawn = at_once([lambda: store.access.secret("session", SystemRandom())] * 6)
    assert len(set(drawn)) == 1
    assert store.access.secret("session", SeededRandom(1)) == drawn[0]
    assert store.access.secret("another", SeededRandom(1)) != drawn[0]


def test_a_challenge_is_spent_by_one(store: AnyStore) -> None:
    spent = at_once([lambda: store.access.spend("ab", NOW + 1, NOW)] * 6)
    assert sorted(map(bool, spent)) == [False] * 5 + [True]
    assert store.access.spend("ab", NOW + 9, NOW + 2)  # expired, and forgotten


def founding(store: AnyStore, team: Team, code: str | None) -> Callable[[], object]:
    mark = RosterMark(1, entry_hash(team.entries[0]))
    return lambda: store.rosters.found(team.pool, team.entries[0], mark, "00", code, NOW)


def test_an_invitation_for_two_pools_makes_two(store: AnyStore) -> None:
    code = store.access.invite(2, 1, SystemRandom(), NOW)
    made = at_once([founding(store, Team(seed), code) for seed in range(5)])
    assert made.count(True) == 2
    assert sum(isinstance(one, AdmissionError) for one in made) == 3


def test_a_pool_that_is_made_twice_at_once_is_made_once(store: AnyStore) -> None:
    code = store.access.invite(9, 1, SystemRandom(), NOW)
    made = at_once([founding(store, Team(1), code)] * 5)
    assert sorted(map(bool, made)) == [False] * 4 + [True]
    assert all(isinstance(one, bool) for one in made)
    used = [founding(store, Team(seed), code)() for seed in range(2, 10)]
    assert used == [True] * 8  # whoever came too late used up none


def test_of_entries_at_once_one_is_stored(store: AnyStore) -> None:
    team = Team()
    assert founding(store, team, None)()
    entries = [bytes([number]) * 9 for number in range(5)]
    stored = at_once(
        [
            lambda e=entry: store.rosters.append(  # type: ignore[misc]
                team.pool, e, RosterMark(2, entry_hash(e)), 1, NOW
            )
            for entry in entries
        ]
    )
    assert stored.count(None) == 1
    lengths = [one.length for one in stored if isinstance(one, LengthError)]
    assert lengths == [2] * 4
    (entry,) = store.rosters.read(team.pool, 1, 100)
    assert store.rosters.mark(team.pool) == RosterMark(2, entry_hash(entry))


def test_there_is_nothing_to_append_to_without_a_pool(store: AnyStore) -> None:
    with pytest.raises(CommitError, match="no pool"):
        store.rosters.append("0" * 32, b"x", RosterMark(2, b""), 1, NOW)
    assert store.rosters.mark("0" * 32) is None
    assert store.rosters.read("0" * 32, 0, 100) == []


def test_messages_of_a_mailbox_are_left_once_and_end_with_it(store: AnyStore) -> None:
    boxes = store.mailboxes
    number = boxes.open(b"o" * 32, NOW + 9, SeededRandom(1), NOW)
    assert number is not None
    assert boxes.join(number, b"j" * 32, NOW)
    parties = [boxes.party(number, who * 32, NOW) for who in (b"o", b"j", b"x")]
    assert parties == ["opener", "joiner", None]
    left = at_once(
        [
            lambda n=n: boxes.put(number, 0, bytes([n]))  # type: ignore[misc]
            for n in range(5)
        ]
    )
    assert sorted(map(bool, left)) == [False] * 4 + [True]
    kept = boxes.get(number, 0)
    assert kept is not None
    assert boxes.put(number, 0, kept)
    boxes.sweep(NOW + 9)
    assert boxes.get(number, 0) is None
    assert boxes.party(number, b"o" * 32, NOW) is None
    assert not boxes.put(number, 1, b"late")


def test_mailboxes_that_open_at_once_have_numbers_of_their_own(store: AnyStore) -> None:
    boxes = store.mailboxes
    numbers = at_once([lambda: boxes.open(bytes(32), NOW + 1, SeededRandom(1), NOW)] * 6)
    taken = {number for number in numbers if isinstance(number, int)}
    assert len(taken) == 6
    joined = at_once([lambda: boxes.join(min(taken), bytes(32), NOW)] * 6)
    assert joined.count(True) == 1


@given(st.text(max_size=80) | st.from_regex(r"lm[cs]_[A-Za-z0-9_-]{0,600}", fullmatch=True))
def test_no_other_text_is_a_challenge_or_a_token(text: str) -> None:
    mint = Mint(bytes(32))
    for opening in (mint.open_challenge, mint.open_grant):
        with pytest.raises(TokenError):
            opening(text, NOW)


@given(st.sampled_from([ONE, TWO, THREE, "recovery"]), st.integers(1, 4096), st.data())
def test_a_token_says_what_was_granted_and_no_bit_of_it_may_change(
    device: str, length: int, data: st.DataObject
) -> None:
    mint = Mint(bytes(32))
    text = mint.grant("0" * 32, device, "member", length, NOW)
    grant = mint.open_grant(text, NOW)
    assert (grant.pool, grant.device, grant.role, grant.length) == (
        "0" * 32,
        device,
        "member",
        length,
    )
    assert len(text) < TEXT_CHARS_MAX // 2
    at = data.draw(st.integers(4, len(text) - 2))  # the last one may carry unused bits
    other = data.draw(st.sampled_from("AZaz09-_").filter(lambda char: char != text[at]))
    with pytest.raises(TokenError):
        mint.open_grant(text[:at] + other + text[at + 1 :], NOW)
