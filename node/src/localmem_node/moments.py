"""Moments as people write them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from localmem_protocol.limits import TIMESTAMP_MS_MAX

FORMS: Final = (
    "no date or time such as 2026-11-25 or 2026-11-25T12:00, and no span such as 7d or 12h"
)
"""What is said of a text that is none."""

_MILLISECONDS: Final = re.compile(r"[0-9]{9,15}")
_AGO: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_UNIT_MS: Final = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def parse_moment(text: str, now_ms: int) -> int | None:
    """Milliseconds since 1970 from an ISO 8601 date or time (local, unless it has an offset), from
    a span such as 7d that ended just now (m, h, d, w), or from milliseconds; None for what is
    neither.
    """
    if ago := _AGO.fullmatch(text):
        return max(0, now_ms - int(ago[1]) * _UNIT_MS[ago[2]])
    try:
        if _MILLISECONDS.fullmatch(text):
            moment = int(text)
        else:
            moment = round(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if 0 <= moment <= TIMESTAMP_MS_MAX else None
