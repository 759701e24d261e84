import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.batching import DEFAULT, EAGER, Audience, Unsent

FEW = Unsent(events=2, text_bytes=400, oldest_s=100.0, newest_s=100.5)


def test_nothing_is_never_due() -> None:
    assert DEFAULT.due_s(Unsent(0, 0, 0.0, 0.0), Audience.WAITING) is None


@pytest.mark.parametrize(
    ("audience", "due_s"),
    [
        (Audience.WAITING, 100.0),
        (Audience.LISTENING, 120.5),
        (Audience.NOBODY, 160.5),
    ],
)
def test_the_fewer_listen_the_longer_it_waits(audience: Audience, due_s: float) -> None:
    assert DEFAULT.due_s(FEW, audience) == due_s


def test_who_never_pauses_is_heard_all_the_same() -> None:
    busy = Unsent(events=20, text_bytes=400, oldest_s=100.0, newest_s=2000.0)
    assert DEFAULT.due_s(busy, Audience.LISTENING) == 160.0
    assert DEFAULT.due_s(busy, Audience.NOBODY) == 400.0


@pytest.mark.parametrize("much", [Unsent(32, 0, 100.0, 100.0), Unsent(1, 32 * 1024, 100.0, 100.0)])
def test_enough_does_not_wait(much: Unsent) -> None:
    assert DEFAULT.due_s(much, Audience.NOBODY) == 100.0


@given(
    st.integers(1, 300),
    st.integers(0, 10**6),
    st.floats(0, 10**6),
    st.floats(0, 10**4),
    st.sampled_from(Audience),
)
def test_everything_is_due_some_time_and_sooner_for_those_who_listen(
    count: int, size: int, oldest_s: float, age_s: float, audience: Audience
) -> None:
    unsent = Unsent(count, size, oldest_s, oldest_s + age_s)
    due_s = DEFAULT.due_s(unsent, audience)
    assert due_s is not None
    assert oldest_s <= due_s <= oldest_s + DEFAULT.idle_wait_s
    assert EAGER.due_s(unsent, audience) == oldest_s
    soonest, sooner, last = (
        DEFAULT.due_s(unsent, who)
        for who in (Audience.WAITING, Audience.LISTENING, Audience.NOBODY)
    )
    assert soonest is not None
    assert sooner is not None
    assert last is not None
    assert soonest <= sooner <= last
