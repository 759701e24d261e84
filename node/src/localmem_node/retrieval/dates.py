"""Spans of time that a question names: "on 8 May 2023", "in June", "yesterday", "two weeks ago".

English, days and months written out or as ISO 8601 dates. What happened is often told some days
later, and sometimes announced, so an event near a span counts as well, but less.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

DAY_MS: Final = 86_400_000
SPANS_MAX: Final = 16
"""Spans of one question; a month without a year is one for every year of the store."""

MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
WEEKDAYS: Final = (
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"
)  # fmt: skip
_NUMBERS: Final = {
    "a": 1, "an": 1, "one": 1, "two": 2, "a couple of": 2, "couple of": 2, "three": 3,
    "a few": 3, "few": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10,
}  # fmt: skip
_COUNT: Final = "|".join(sorted(_NUMBERS, key=len, reverse=True))
_MONTH: Final = "|".join(f"{name}|{name[:3]}" for name in MONTHS if name != "may") + "|may"
_WEEKDAY: Final = "|".join(WEEKDAYS)

_ISO: Final = re.compile(r"\b(\d{4})-(\d{2})(?:-(\d{2}))?\b")
_DAY_FIRST: Final = re.compile(
    rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_MONTH})\b\.?(?:,? (\d{{4}})\b)?"
)
_MONTH_FIRST: Final = re.compile(
    rf"\b({_MONTH})\b\.?(?: (\d{{1,2}})(?:st|nd|rd|th)?(?![\d:]))?(?:,? (?:of )?(\d{{4}})\b)?"
)
_YEAR: Final = re.compile(r"\b(?:in|during|since|of) (\d{4})\b")
_RELATIVE: Final = re.compile(
    rf"\b(?:(today|this morning|tonight)|(yesterday|last night)|(last|this|past) (week|month|year)"
    rf"|(\d{{1,3}}|{_COUNT}) (minute|hour|day|week|month|year)s? ago"
    rf"|(?:on|last|this) ({_WEEKDAY}))\b"
)
_DAYS: Final = {"day": 1, "week": 7, "month": 30, "year": 365}

EXPRESSION: Final = re.compile(
    rf"\b(?:yesterday|today|tonight|tomorrow|ago|recently|lately|since|(?:last|next|this|past|the other)"
    rf" (?:night|morning|day|week|weekend|month|year|spring|summer|autumn|fall|winter|{_WEEKDAY})"
    rf"|{_WEEKDAY}|{'|'.join(name for name in MONTHS if name != 'may')}|in may|may \d{{1,2}}"
    rf"|(?:19|20)\d{{2}}|\d{{1,2}}(?::\d{{2}})? ?(?:am|pm))\b",
    re.IGNORECASE,
)
"""What tells a time within a text."""


class Span(NamedTuple):
    """Milliseconds since 1970, the end left out."""

    first: int
    end: int


def spans_of(text: str, now: datetime | None, oldest: int, newest: int) -> list[Span]:
    """The spans that a question names; in the zone of `now`, UTC without it.

    Without `now` "yesterday" means nothing. `oldest` and `newest` are the times of the events: what
    has no year may be in any of theirs.
    """
    zone = UTC if now is None or now.tzinfo is None else now.tzinfo
    years = range(
        datetime.fromtimestamp(oldest / 1000, zone).year,
        datetime.fromtimestamp(newest / 1000, zone).year + 1,
    )
    found: list[Span] = []

    def add(year: int | None, month: int, day: int | None) -> None:
        for each in years[-SPANS_MAX:] if year is None else (year,):
            try:
                first = datetime(each, month, 1 if day is None else day, tzinfo=zone)
                end = _next_month(first) if day is None else first + timedelta(days=1)
            except (ValueError, OverflowError):  # 31 June; what ends after the year 9999
                continue
            found.append(_span(first, end))

    # Not IGNORECASE: with it "ſeptember" and "aprıl" are months, but no names of this table.
    rest = text.lower()
    for year, month, day in _ISO.findall(rest):
        if 1 <= int(month) <= 12:
            add(int(year), int(month), int(day) if day else None)
    rest = _ISO.sub(" ", rest)
    for day, month, year in _DAY_FIRST.findall(rest):
        add(int(year) if year else None, _month(month), int(day))
    rest = _DAY_FIRST.sub(" ", rest)
    for match in _MONTH_FIRST.finditer(rest):
        # "may" is a verb, "mar" and "dec" are words of code: a month has a number or a preposition.
        if match[2] or match[3] or (len(match[1]) > 3 and match[1] != "may"):
            add(int(match[3]) if match[3] else None, _month(match[1]), _number(match[2]))
        elif re.search(r"\b(?:in|during|since|by|last|of)\s$", rest[: match.start()]):
            add(None, _month(match[1]), None)
    rest = _MONTH_FIRST.sub(" ", rest)
    for year in _YEAR.findall(rest):
        if 1970 <= int(year) < 9999:
            first = datetime(int(year), 1, 1, tzinfo=zone)
            found.append(_span(first, first.replace(year=int(year) + 1)))
    if now is not None:
        found += [_relative(match, now) for match in _RELATIVE.finditer(rest)]
    return found[:SPANS_MAX]


def nearness(spans: Sequence[Span], timestamps: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """From 0 to 1 for each time: 1 within a span; less up to some days after it, or just before."""
    best = np.zeros(len(timestamps), np.float32)
    for first, end in spans:
        short = end - first <= 2 * DAY_MS
        after, before = (0.6, 0.2) if short else (0.4, 0.1)
        near = np.select(
            [
                (timestamps >= first) & (timestamps < end),
                (timestamps >= end) & (timestamps < end + (8 if short else 12) * DAY_MS),
                (timestamps < first) & (timestamps >= first - 4 * DAY_MS),
            ],
            [1.0, after, before],
        )
        np.maximum(best, near, out=best, casting="unsafe")
    return best


def _relative(match: re.Match[str], now: datetime) -> Span:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    day = timedelta(days=1)
    if match[1]:
        return _span(midnight, midnight + day)
    if match[2]:
        return _span(midnight - day, midnight)
    if match[4]:
        days = timedelta(days=_DAYS[match[4]])
        # "Last week" said on a Tuesday may mean the seven days before, or the calendar's.
        return _span(now - (days if match[3] == "this" else 2 * days), now)
    if match[7]:
        back = (now.weekday() - WEEKDAYS.index(match[7])) % 7
        return _span(midnight - back * day, midnight - back * day + day)
    unit, count = match[6], _NUMBERS.get(match[5]) or int(match[5])
    if unit in ("minute", "hour"):
        length = timedelta(minutes=count if unit == "minute" else 60 * count)
        return _span(now - 2 * length, now - length / 2)
    middle = midnight - timedelta(days=count * _DAYS[unit])
    slack = timedelta(days=_DAYS[unit] // 2)
    return _span(middle - slack, middle + slack + day)


def _span(first: datetime, end: datetime) -> Span:
    return Span(int(first.timestamp() * 1000), int(end.timestamp() * 1000))


def _next_month(first: datetime) -> datetime:
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1)


def _month(name: str) -> int:
    return next(at for at, each in enumerate(MONTHS, 1) if each.startswith(name))


def _number(text: str | None) -> int | None:
    return int(text) if text else None
