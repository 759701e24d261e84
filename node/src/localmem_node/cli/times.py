"""Moments as people write them in options."""

from __future__ import annotations

import click

from localmem_node.moments import FORMS, parse_moment


def parse_time(option: str, text: str | None, now_ms: int) -> int | None:
    """The moment that an option means, in milliseconds since 1970. Raises UsageError."""
    if text is None:
        return None
    moment = parse_moment(text, now_ms)
    if moment is None:
        raise click.UsageError(f"{option}: {text!r} is {FORMS}")
    return moment
