"""Dates as people say them in a chat, and as others ask for them months later.

A turn says "last Saturday"; a question says "on 8 May 2023" or "in May". Both are drawn here, with
the day that is meant, so that a question can be put in other words than the turn that answers it.
All days are UTC; there is no clock in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

import numpy as np

Precision = Literal["day", "week", "month"]

WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_SHORT: Final = 5
"""May and June are never shortened; `Sept` is the longest short form."""


@dataclass(frozen=True, slots=True)
class Said:
    """What was said, the day that it means, and how exactly it means it."""

    text: str
    day: date
    precision: Precision


def day_of(timestamp_ms: int) -> date:
    """The UTC day of a time in milliseconds since 1970."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).date()


def before(day: date, chance: np.random.Generator) -> Said:
    """Something in the past, said on `day`."""
    weekday = int(chance.integers(7))
    to_weekday = (day.weekday() - weekday - 1) % 7 + 1
    name = WEEKDAYS[weekday]
    days = int(chance.integers(2, 7))
    weeks = int(chance.integers(2, 4))
    choices: list[tuple[str, int, Precision]] = [
        ("yesterday", 1, "day"),
        ("yesterday", 1, "day"),
        ("today", 0, "day"),
        ("this morning", 0, "day"),
        ("the other day", 3, "week"),
        (f"last {name}", to_weekday, "day"),
        (f"last {name}", to_weekday, "day"),
        (f"on {name}", to_weekday, "day"),
        (f"{_number(days)} days ago", days, "day"),
        ("a few days ago", 3, "week"),
        ("last week", 7, "week"),
        ("last week", 7, "week"),
        ("last weekend", (day.weekday() + 1) % 7 + 1, "day"),
        ("over the weekend", (day.weekday() + 1) % 7 + 1, "day"),
        (f"{_number(weeks)} weeks ago", 7 * weeks, "week"),
        ("last month", 30, "month"),
        ("earlier this month", min(day.day - 1, 9), "week"),
        (_dated(day - timedelta(days=days), chance), days, "day"),
    ]
    text, back, precision = choices[int(chance.integers(len(choices)))]
    meant = day - timedelta(days=back)
    if text == "last month":
        meant = day.replace(day=1) - timedelta(days=15)
    return Said(text, meant, precision)


def loosely(chance: np.random.Generator) -> str:
    """A time without a day, for what is no fact: `last summer`, `on Sunday morning`."""
    times = ("morning", "afternoon", "evening")
    choices = [
        "yesterday",
        "last night",
        "this morning",
        "the other day",
        "last week",
        "over the weekend",
        "last month",
        "a few days ago",
        "last weekend",
        f"last {WEEKDAYS[int(chance.integers(7))]}",
        f"on {WEEKDAYS[int(chance.integers(7))]} {times[int(chance.integers(3))]}",
        f"back in {MONTHS[int(chance.integers(12))]}",
        f"{_number(int(chance.integers(2, 5)))} weeks ago",
    ]
    return str(chance.choice(choices))


def after(day: date, chance: np.random.Generator) -> Said:
    """Something planned, said on `day`."""
    weekday = int(chance.integers(7))
    to_weekday = (weekday - day.weekday() - 1) % 7 + 1
    name = WEEKDAYS[weekday]
    choices: list[tuple[str, int, Precision]] = [
        ("tomorrow", 1, "day"),
        ("next week", 7, "week"),
        ("this weekend", max(5 - day.weekday(), 1), "day"),
        (f"next {name}", to_weekday + 7 * (to_weekday < 3), "day"),
        (f"on {name}", to_weekday, "day"),
        ("in two weeks", 14, "week"),
        ("later this month", 10, "week"),
        ("next month", 30, "month"),
        ("next month", 30, "month"),
    ]
    text, ahead, precision = choices[int(chance.integers(len(choices)))]
    meant = day + timedelta(days=ahead)
    if text == "next month":
        meant = (day.replace(day=1) + timedelta(days=32)).replace(day=15)
    return Said(text, meant, precision)


def asked(said: Said, chance: np.random.Generator) -> str:
    """The day in the words of a question: ` on 8 May 2023`, ` in May 2023`, ` in early May`."""
    day = said.day
    month, year = MONTHS[day.month - 1], day.year
    whole = [f"in {month} {year}", f"in {month}", f"in {month} {year}", f"during {month} {year}"]
    if said.precision == "month":
        return str(chance.choice(whole))
    part = "early" if day.day < 11 else "mid" if day.day < 21 else "late"
    about = [f"in {part} {month}", f"around {spelled(day, chance)}", f"in {part} {month} {year}"]
    if said.precision == "week":
        return str(chance.choice(whole + about))
    return str(chance.choice(whole + [f"on {spelled(day, chance)}"] * 3))


def spelled(day: date, chance: np.random.Generator) -> str:
    """A day as people write it."""
    month = MONTHS[day.month - 1]
    short = month if len(month) < _SHORT else month[:3]
    ordinal = f"{day.day}{_ordinal(day.day)}"
    return str(
        chance.choice(
            [
                f"{day.day} {month} {day.year}",
                f"{day.day} {month}, {day.year}",
                f"{month} {day.day}, {day.year}",
                f"{month} {ordinal}",
                f"the {ordinal} of {month}",
                f"{short} {day.day}, {day.year}",
                day.isoformat(),
            ]
        )
    )


def months_back(asked_on: date, months: int) -> tuple[int, int]:
    """Year and month, `months` before the month of a day."""
    number = asked_on.year * 12 + asked_on.month - 1 - months
    return number // 12, number % 12 + 1


def _dated(day: date, chance: np.random.Generator) -> str:
    month, ordinal = MONTHS[day.month - 1], f"{day.day}{_ordinal(day.day)}"
    return str(
        chance.choice([f"on the {ordinal}", f"on {month} {day.day}", f"on {month} {ordinal}"])
    )


def _ordinal(number: int) -> str:
    if 10 < number % 100 < 14:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _number(number: int) -> str:
    return ("no", "one", "two", "three", "four", "five", "six")[number]
