"""Events for tests: made, and drawn by Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from localmem_protocol.events import KINDS, LOCATED, Draft, Event, parse_draft, stamp
from localmem_protocol.references import Reference, refer

DEVICE = "00112233445566aa"
MOMENT = 1_760_000_000_000


def fields(**changes: Any) -> dict[str, Any]:
    """The JSON object of a plain edit."""
    return {
        "timestamp": MOMENT,
        "filePath": "src/main.py",
        "selectionRange": [10, 12],
        "snippet": "def main() -> int:\n    return 0\n",
        "modelResponseHash": None,
    } | changes


def draft(**changes: Any) -> Draft:
    """A plain edit as a draft."""
    return parse_draft(fields(**changes))


def event(number: int = 1, device: str = DEVICE, **changes: Any) -> Event:
    """The `number`th event of a device."""
    moment = MOMENT + 1000 * number
    offered = draft(**{"timestamp": moment, "snippet": f"line {number}\n", **changes})
    return stamp(offered, device=device, clock=moment << 16, sequence=number)


def reference(offered: Event, key: bytes = bytes(32)) -> Reference:
    """The reference to an event that is at a place in a file."""
    made = refer(offered, key)
    assert made is not None
    return made


_text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
_optional = st.none() | _text


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Any draft that `parse_draft` lets through."""
    kind = draw(st.sampled_from(KINDS))
    lines = draw(st.tuples(st.integers(1, 10**6), st.integers(0, 1000)))
    placed = kind in LOCATED or draw(st.booleans())
    snippet = draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
    return parse_draft(
        {
            "timestamp": draw(st.integers(0, 2**47 - 1)),
            "snippet": snippet if snippet.strip() else snippet + "x",
            "filePath": draw(_text) if placed else None,
            "selectionRange": [lines[0], lines[0] + lines[1]] if placed else None,
            "modelResponseHash": draw(st.none() | st.binary(min_size=8, max_size=8).map(bytes.hex)),
            "kind": kind,
            "tool": draw(_optional),
            "session": draw(_optional),
            "project": draw(_optional),
            "pinned": draw(st.booleans()),
        }
    )


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event that a device can record."""
    return stamp(
        draw(drafts()),
        device=draw(st.binary(min_size=8, max_size=8)).hex(),
        clock=draw(st.integers(0, 2**63 - 1)),
        sequence=draw(st.integers(1, 2**63 - 1)),
    )
