"""What the hub logs, for people and for programs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from localmem_hub.logs import JsonFormatter, LogFormat, start_logging


def line(message: str, *arguments: object, error: BaseException | None = None) -> dict[str, object]:
    exc = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("hub.x", logging.INFO, __file__, 1, message, arguments, exc)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    made = json.loads(text)
    assert isinstance(made, dict)
    return made


def test_what_has_a_name_is_a_field() -> None:
    made = line("closed pool=%s code=%d seconds=%.1f frames_in=%d", "team", 1000, 1.25, 3)
    assert made["time"].endswith("+00:00")  # type: ignore[attr-defined]
    assert {key: made[key] for key in made if key != "time"} == {
        "level": "info",
        "logger": "hub.x",
        "event": "closed",
        "message": "closed pool=team code=1000 seconds=1.2 frames_in=3",
        "pool": "team",
        "code": 1000,
        "seconds": 1.25,
        "frames_in": 3,
    }


def test_what_has_none_is_in_the_message() -> None:
    made = line("commit failed pool=%s: %s", "team", ValueError("no"))
    assert (made["event"], made["pool"]) == ("commit failed", "team")
    assert made["message"] == "commit failed pool=team: no"
    assert line("a % sign")["message"] == "a % sign"
    assert line("100%% of %s", "it")["event"] == "100%% of"


def test_a_name_does_not_hide_what_every_line_has() -> None:
    assert line("odd level=%s", "x")["level"] == "info"


def test_an_error_comes_with_where_it_was_raised() -> None:
    try:
        raise ValueError("because")
    except ValueError as error:
        made = line("failed", error=error)
    assert str(made["exception"]).endswith("ValueError: because\n")


def test_lines_break_out_of_nothing() -> None:
    assert line("refused pool=%r", 'a\n{"level": "info"}')["pool"] == 'a\n{"level": "info"}'


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_logging_as_before")
def test_the_level_and_the_form_are_chosen() -> None:
    kinds: tuple[LogFormat, ...] = ("text", "json")
    for kind in kinds:
        out = io.StringIO()
        logging.getLogger().handlers.clear()
        start_logging("warning", kind, out)
        logging.getLogger("hub").info("not this")
        logging.getLogger("hub").warning("this pool=%s", "team")
        (written,) = out.getvalue().splitlines()
        assert (
            written.endswith("WARNING hub this pool=team") or json.loads(written)["pool"] == "team"
        )
