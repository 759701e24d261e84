"""The hub's log: lines for people, or one JSON object per line for programs.

Messages are written as `closed pool=%s code=%d`; in JSON what has a name there is a field of its own. No
line holds what an update says, a token's secret or an address with a query string.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

LogFormat = Literal["text", "json"]

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_FIELD: Final = re.compile(r"\s?(?:([a-z_]+)=)?%(?:\.\d+)?[sdrf]")
_OWN: Final = frozenset({"time", "level", "logger", "event", "message", "exception"})


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "event", "message", …}`: the event is the message without values."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _FIELD.sub("", str(record.msg)).strip(" :"),
            "message": record.getMessage(),
        }
        fields |= named_fields(record)
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(fields, default=str)


def named_fields(record: logging.LogRecord) -> dict[str, object]:
    """What a message calls by name, such as `pool` in `closed pool=%s`; numbers stay numbers."""
    names = _FIELD.findall(str(record.msg))
    values = record.args if isinstance(record.args, tuple) else ()
    if len(names) != len(values):
        return {}  # not written that way
    return {
        name: value if isinstance(value, int | float | str) else str(value)
        for name, value in zip(names, values, strict=True)
        if name and name not in _OWN
    }


def start_logging(level: str, kind: LogFormat, stream: TextIO | None = None) -> None:
    """Write to a stream (stderr) from this level on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if kind == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
