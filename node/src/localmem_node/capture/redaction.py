"""Secrets and private spans taken out of text: `[redacted:kind]` stays in their place.

The order is from the surest to the most guessed: what people marked as private, private keys, known
formats, values that a name gives away, runs of high entropy. Redacting twice changes nothing.
Linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from localmem_node.capture import assignments, key_blocks
from localmem_node.capture.entropy import random_runs
from localmem_node.capture.formats import FORMATS, Format
from localmem_node.capture.randomness import is_placeholder
from localmem_node.private_spans import without_private

PASSES_MAX: Final = 4
"""How often what is left is looked through again: a placeholder may end what hid a secret."""

_HINTS: Final = tuple((hint, at) for at, format_ in enumerate(FORMATS) for hint in format_.hints)


def redact(text: str, *, guess: bool = True) -> str:
    """`text` without private spans, and with a placeholder for every secret found in it.

    Without `guess`, high entropy alone is no reason: ids have it too.
    """
    for _ in range(PASSES_MAX):
        cleaned = _redact_once(text, guess=guess)
        if cleaned == text:
            break
        text = cleaned
    return text


def placeholder(kind: str) -> str:
    """What is left where a secret was."""
    return f"[redacted:{kind}]"


def _redact_once(text: str, *, guess: bool) -> str:
    text = without_private(text)
    lowered = text.lower()
    if "private" in lowered:
        text = _cut(text, ((*span, "private-key") for span in key_blocks.private_keys(text)))
        text = _cut(text, ((*span, "private-key") for span in key_blocks.putty_keys(text)))
    for at in sorted({at for hint, at in _HINTS if hint in lowered}):
        text = _replace(FORMATS[at], text)
    text = _cut(text, assignments.assigned_secrets(text))
    if "--" in text:
        text = _cut(text, assignments.option_secrets(text))
    if "value" in lowered or "</" in text:
        text = _cut(text, assignments.paired_secrets(text))
    if "cookie" in lowered:
        text = _cut(text, assignments.cookie_secrets(text))
    if guess:
        text = _cut(text, ((*span, "high-entropy") for span in random_runs(text)))
    return text


def _cut(text: str, found: Iterable[tuple[int, int, str]]) -> str:
    kept: list[str] = []
    at = 0
    for start, stop, kind in found:
        if start >= at:
            kept += [text[at:start], placeholder(kind)]
            at = stop
    return "".join([*kept, text[at:]]) if kept else text


def _replace(format_: Format, text: str) -> str:
    group = 1 if format_.pattern.groups else 0

    def one(match: re.Match[str]) -> str:
        secret = match[group]
        if is_placeholder(secret) or (format_.judge and not format_.judge(secret)):
            return match[0]
        before = match[0][: match.start(group) - match.start()]
        after = match[0][match.end(group) - match.start() :]
        return f"{before}{placeholder(format_.kind)}{after}"

    return format_.pattern.sub(one, text)
