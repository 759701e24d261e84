"""Moments in options: what people write, and in which time zone."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click
import pytest

from localmem_node.cli.times import parse_time

NOW_MS = 1_767_268_800_000  # 2026-01-01T12:00Z
HOUR_MS = 3_600_000


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nine hours ahead, all year."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01T12:00Z", NOW_MS),
        ("2026-01-01T13:00+01:00", NOW_MS),
        ("2026-01-01 21:00", NOW_MS),
        ("2026-01-01T21:00:00.250", NOW_MS + 250),
        ("2026-01-01", NOW_MS - 21 * HOUR_MS),
        ("20260101", NOW_MS - 21 * HOUR_MS),
        (str(NOW_MS), NOW_MS),
        ("0m", NOW_MS),
        ("90m", NOW_MS - 90 * 60_000),
        ("12h", NOW_MS - 12 * HOUR_MS),
        ("7d", NOW_MS - 7 * 24 * HOUR_MS),
        ("2w", NOW_MS - 14 * 24 * HOUR_MS),
        ("999999w", 0),
    ],
)
def test_dates_times_and_spans(tokyo: None, text: str, moment: int) -> None:
    assert parse_time("--since", text, NOW_MS) == moment


def test_nothing_given_is_no_moment() -> None:
    assert parse_time("--since", None, NOW_MS) is None


@pytest.mark.parametrize(
    "text", ["", "now", "2026-13-01", "7", "-7d", "7y", "1969-01-01T00:00Z", "9" * 15, "٣d", "7d "]
)
def test_anything_else_is_refused_by_the_name_of_the_option(text: str) -> None:
    with pytest.raises(click.UsageError, match="--since"):
        parse_time("--since", text, NOW_MS)
