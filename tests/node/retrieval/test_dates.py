from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localmem_node.retrieval.dates import (
    DAY_MS,
    EXPRESSION,
    MONTHS,
    SPANS_MAX,
    WEEKDAYS,
    Span,
    nearness,
    spans_of,
)

_LAST = 2**47 - 1
_ZONE = timezone(timedelta(hours=2))
_NOW = datetime(2023, 5, 10, 9, 30, tzinfo=_ZONE)  # a Wednesday

_TIMES = st.integers(0, _LAST)
_ZONES = st.sampled_from([timezone(timedelta(hours=hours)) for hours in (-12, -5, 0, 9, 14)])
_NOWS = st.none() | st.builds(
    lambda moment, zone: datetime.fromtimestamp(moment / 1000, zone), _TIMES, _ZONES
)
_PIECES = st.sampled_from(
    [
        *MONTHS, *(name[:3] for name in MONTHS), *WEEKDAYS, "Monday", "MAY", "in", "On", "of", "by",
        "last", "this", "past", "during", "since", "week", "month", "year", "years", "days", "hours",
        "minutes", "ago", "today", "yesterday", "last night", "a couple of", "a few", "ten", "two",
        "0", "00", "1", "8th", "28", "30", "31", "32", "99", "999", "0000", "0001", "1969", "2023",
        "9998", "9999", "-", "-00", "-02", "-06-31", "-12-31", "-13", ",", ".", ":", "\n", "\u017f",
        "\u0131", "\u212a", "\u0663", "\u0130",
    ]
)  # fmt: skip
_OWN_WORDS = st.lists(st.tuples(_PIECES, st.sampled_from(["", " ", "  "])), max_size=24).map(
    lambda pieces: "".join(piece + space for piece, space in pieces)
)


def _ms(*day: int, zone: timezone = UTC) -> int:
    return int(datetime(*day, tzinfo=zone).timestamp() * 1000)  # type: ignore[arg-type,misc]


def _days(first: tuple[int, int, int], end: tuple[int, int, int], zone: timezone = UTC) -> Span:
    return Span(_ms(*first, zone=zone), _ms(*end, zone=zone))


_8_MAY = _days((2023, 5, 8), (2023, 5, 9))
_JUNE = _days((2023, 6, 1), (2023, 7, 1))
_YEAR = _days((2023, 1, 1), (2024, 1, 1))


def _spans(text: str, now: datetime | None = None) -> list[Span]:
    """Of a store whose events are all of 2023."""
    return spans_of(text, now, _ms(2023, 1, 2), _ms(2023, 12, 30))


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("what happened on 2023-05-08?", _8_MAY),
        ("what happened on 8 May 2023?", _8_MAY),
        ("the 8th of May, 2023", _8_MAY),
        ("on May 8, 2023 at noon", _8_MAY),
        ("MAY 8TH", _8_MAY),
        ("8 may", _8_MAY),
        ("since may", _days((2023, 5, 1), (2023, 6, 1))),
        ("in June", _JUNE),
        ("June of 2023", _JUNE),
        ("jun. 2023", _JUNE),
        ("2023-06", _JUNE),
        ("in 2023", _YEAR),
        ("December 31", _days((2023, 12, 31), (2024, 1, 1))),
        ("during December", _days((2023, 12, 1), (2024, 1, 1))),
        ("29 February 2024", _days((2024, 2, 29), (2024, 3, 1))),
    ],
)
def test_a_date_is_a_span_of_milliseconds(text: str, span: Span) -> None:
    assert _spans(text) == [span]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "may I ask what this may do",
        "mar the surface, dec the counter",
        "31 June 2023",
        "2023-02-30",
        "2023-13-01",
        "0 May 2023",
        "2023-05-00",
        "0000-05-08",
        "8 May 0000",
        "9999-12-31",
        "in 9999",
        "in 1000",
        "version 2023",
        "\u017feptember 2023, 8 apr\u0131l",
        "yesterday",  # without `now`
    ],
)
def test_what_names_no_day_is_no_span(text: str) -> None:
    assert _spans(text) == []


@pytest.mark.parametrize("text", ["two m\u0131nutes ago", "\u017feven days ago", "on fr\u0131day"])
def test_letters_that_only_look_like_a_word_tell_no_time(text: str) -> None:
    assert _spans(text, _NOW) == []


def _of(day: tuple[int, int, int], days: int = 1) -> Span:
    first = datetime(*day, tzinfo=_ZONE)
    return Span(*(int(each.timestamp() * 1000) for each in (first, first + timedelta(days=days))))


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("what did I do today?", _of((2023, 5, 10))),
        ("This morning", _of((2023, 5, 10))),
        ("yesterday", _of((2023, 5, 9))),
        ("the error of last night", _of((2023, 5, 9))),
        ("three days ago", _of((2023, 5, 7))),
        ("a couple of days ago", _of((2023, 5, 8))),
        ("a week ago", _of((2023, 4, 30), 7)),
        ("on Monday", _of((2023, 5, 8))),
        ("last thursday", _of((2023, 5, 4))),
        ("on Wednesday", _of((2023, 5, 10))),
        ("on 8 May", _of((2023, 5, 8))),
    ],
)
def test_what_is_said_from_now_is_counted_in_its_zone(text: str, span: Span) -> None:
    assert _spans(text, _NOW) == [span]


def test_a_stretch_of_time_ends_now_or_surrounds_what_is_said() -> None:
    now = int(_NOW.timestamp() * 1000)
    assert _spans("this week", _NOW) == [Span(now - 7 * DAY_MS, now)]
    assert _spans("last week", _NOW) == [Span(now - 14 * DAY_MS, now)]
    (span,) = _spans("20 minutes ago", _NOW)
    assert span.first < now - 20 * 60_000 < span.end < now
    (span,) = _spans("2 months ago", _NOW)
    assert span.first < now - 60 * DAY_MS < span.end


def test_two_dates_are_two_spans() -> None:
    assert set(_spans("between 8 May and June 2023")) == {_8_MAY, _JUNE}


def test_what_has_no_year_may_be_in_any_of_the_store() -> None:
    found = spans_of("8 May", None, _ms(2021, 6, 1), _ms(2023, 2, 1))
    assert found == [_days((year, 5, 8), (year, 5, 9)) for year in (2021, 2022, 2023)]
    newest = spans_of("in June", None, 0, _LAST)
    assert len(newest) == SPANS_MAX
    assert newest[-1].first == _ms(datetime.fromtimestamp(_LAST / 1000, UTC).year, 6, 1)


@given(st.text(max_size=60) | _OWN_WORDS, _NOWS, _TIMES, _TIMES)
@example("0000-00 9999-12 in 9998 999 years ago", _NOW, 0, _LAST)
@example("31 december 9999, december 9999", None, _LAST, _LAST)
@example("0001-01-01", datetime.fromtimestamp(0, timezone(timedelta(hours=14))), 0, 0)
def test_no_text_is_an_error(text: str, now: datetime | None, one: int, other: int) -> None:
    found = spans_of(text, now, min(one, other), max(one, other))
    assert len(found) <= SPANS_MAX
    assert all(span.first <= span.end for span in found)
    near = nearness(found, np.array([0, one, other, _LAST]))
    assert ((near >= 0) & (near <= 1)).all()


@given(st.dates(date(1970, 1, 1), date(6000, 1, 1)))
def test_every_way_to_write_a_day_names_it(day: date) -> None:
    month = MONTHS[day.month - 1].capitalize()
    first = _ms(day.year, day.month, day.day)
    for text in (
        f"{day.year}-{day.month:02}-{day.day:02}",
        f"{day.day} {month} {day.year}",
        f"{month[:3]} {day.day}, {day.year}",
    ):
        assert spans_of(text, None, 0, 0) == [Span(first, first + DAY_MS)]


_SPANS = st.lists(
    st.builds(
        lambda first, days: Span(first, first + days * DAY_MS), _TIMES, st.sampled_from([1, 2, 30])
    ),
    max_size=4,
)


@given(_SPANS, st.lists(_TIMES, max_size=6), st.integers(-15, 40))
def test_nearness_is_from_0_to_1_and_1_within_a_span_only(
    spans: list[Span], times: list[int], days: int
) -> None:
    times += [first + days * DAY_MS for first, _ in spans]
    near = nearness(spans, np.array(times, np.int64))
    assert near.dtype == np.float32
    assert ((near >= 0) & (near <= 1)).all()
    within = [any(first <= time < end for first, end in spans) for time in times]
    assert (near == 1).tolist() == within
    more = nearness([*spans, Span(0, _LAST)], np.array(times, np.int64))
    assert (more >= near).all()  # another span takes nothing away


@pytest.mark.parametrize("length", [1, 30])
def test_nearness_falls_with_the_distance_and_after_a_span_counts_more_than_before(
    length: int,
) -> None:
    span = Span(100 * DAY_MS, (100 + length) * DAY_MS)
    after = nearness([span], span.end - 1 + np.arange(0, 40 * DAY_MS, DAY_MS // 4))
    before = nearness([span], span.first - np.arange(0, 40 * DAY_MS, DAY_MS // 4))
    assert (np.diff(after) <= 0).all()
    assert (np.diff(before) <= 0).all()
    assert after[0] == before[0] == 1
    assert after[4] > before[4] > 0
    assert after[-1] == before[-1] == 0


@pytest.mark.parametrize(
    "text",
    [
        "I went yesterday", "see you next week", "in May", "May 3", "on Friday", "in 2021", "7:30 pm",
        "two days ago", "last Tuesday", "the other day", "AUGUST",
    ],
)  # fmt: skip
def test_an_expression_of_time_is_known(text: str) -> None:
    assert EXPRESSION.search(text)


@pytest.mark.parametrize(
    "text", ["you may go", "a decade", "12345", "the last one", "a march2 b", "pm"]
)
def test_other_words_tell_no_time(text: str) -> None:
    assert not EXPRESSION.search(text)
