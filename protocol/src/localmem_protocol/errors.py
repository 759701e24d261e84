"""Every error the protocol raises.

ProtocolError
├── LocalError              this side broke a rule; fix the call
│   └── EventError          an event with a missing or wrong field (names the field)
└── RemoteError             the other side, or what it stored, broke a rule
    ├── FrameError          bytes that are no frame of ours, or a frame out of turn
    ├── RefusedError        the hub said no, and why (its own code and permanence)
    ├── UpdateError         a Yjs update that a sealed room does not take
    │   └── GapError        …because something before it is missing: ask again, nothing is wrong
    ├── MergeError          a document that can no longer be trusted: load it again
    ├── BatchError          a batch that opens but does not parse
    └── SealError           a batch that does not open: wrong key, altered, or out of its place

Each class carries `code`, stable and machine-readable, and `permanent`: whether trying the same
again can help.
"""

from __future__ import annotations

from typing import ClassVar


class ProtocolError(Exception):
    """Base of every error of this package."""

    code: ClassVar[str] = "protocol"
    permanent: bool = True


class LocalError(ProtocolError):
    """This side broke a rule."""

    code = "local"


class EventError(LocalError):
    """An event with a missing or wrong field; `field` is its JSON name ("" for the whole)."""

    code = "event"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


class RemoteError(ProtocolError):
    """The other side, or what it stored, broke a rule."""

    code = "remote"


class FrameError(RemoteError):
    """Bytes that are no frame of this protocol, or a frame out of turn."""

    code = "frame"


class RefusedError(RemoteError):
    """The hub refused; `close_code` is one of `frames.Close`."""

    code = "refused"

    def __init__(self, close_code: int, permanent: bool, reason: str) -> None:
        super().__init__(f"the hub refused ({close_code}): {reason}")
        self.close_code = close_code
        self.permanent = permanent


class UpdateError(RemoteError):
    """A Yjs update that a sealed room does not take."""

    code = "update"


class GapError(UpdateError):
    """An update whose predecessor is missing; a fresh sync step brings it."""

    code = "gap"
    permanent = False


class MergeError(RemoteError):
    """The CRDT library failed on a checked update; its document may be half changed.

    Discard the document, and load it again from what is stored.
    """

    code = "merge"
    permanent = False


class BatchError(RemoteError):
    """A batch whose plaintext does not parse."""

    code = "batch"


class SealError(RemoteError):
    """A batch that does not open: wrong key, altered, or moved from its place."""

    code = "seal"
