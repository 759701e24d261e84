"""Every error the protocol raises.

ProtocolError
├── LocalError              this side broke a rule; fix the call
│   ├── EventError          an event with a missing or wrong field (names the field)
│   └── PhraseError         words that are no recovery phrase (says which)
└── RemoteError             the other side, or what it stored, broke a rule
    ├── FrameError          bytes that are no frame of ours, or a frame out of turn
    ├── CapabilityError     a peer that does not say that it can do what is needed (names it)
    ├── RefusedError        the hub said no, and why (its own code and permanence)
    ├── UpdateError         a Yjs update that a sealed room does not take
    │   ├── GapError        …because something before it is missing: ask again, nothing is wrong
│   │   └── RestoredError   …because the hub lost what is here; the document is begun anew
│   └── HistoryError    …because it belongs to another history than what is here: begin anew
    ├── MergeError          a document that can no longer be trusted: load it again
    ├── BatchError          a batch that opens but does not parse
    ├── SealError           sealed bytes that do not open: wrong key, altered, or out of their place
    ├── KeysError           bytes that are no keys, or that nothing can be sealed to
    ├── SignatureError      not signed by whom it should be
    ├── HeadError           a signed chain head that does not parse
    ├── RosterError         a roster entry that breaks the rules of its pool
    │   ├── ConflictError   …because another came first: read the roster again, then decide again
    │   └── ForkError       …because it, or the whole log, belongs to another history
    └── PairingError        a pairing that went wrong: wrong code, altered, or out of turn

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


class PhraseError(LocalError):
    """Words that are no recovery phrase. `word` is the 1-based place of the wrong one, 0 if unknown."""

    code = "phrase"

    def __init__(self, problem: str, word: int = 0) -> None:
        super().__init__(problem)
        self.word = word


class RemoteError(ProtocolError):
    """The other side, or what it stored, broke a rule."""

    code = "remote"


class FrameError(RemoteError):
    """Bytes that are no frame of this protocol, or a frame out of turn."""

    code = "frame"


class CapabilityError(RemoteError):
    """A peer that cannot do what this release needs; `capability` is its name."""

    code = "capability"

    def __init__(self, peer: str, capability: str) -> None:
        super().__init__(
            f"{peer} lacks the capability {capability!r}; bring hub and devices to one release"
        )
        self.capability = capability


class RefusedError(RemoteError):
    """The hub refused; `close_code` is one of `frames.Close`."""

    code = "refused"

    def __init__(self, close_code: int, permanent: bool, reason: str) -> None:
        super().__init__(f"the hub refused ({close_code}): {reason}")
        self.close_code = close_code
        self.permanent = permanent
        self.reason = reason


class UpdateError(RemoteError):
    """A Yjs update that a sealed room does not take."""

    code = "update"


class GapError(UpdateError):
    """An update whose predecessor is missing; a fresh sync step brings it."""

    code = "gap"
    permanent = False


class RestoredError(GapError):
    """The hub was restored from a backup, and lost what others wrote; greet it anew, from nothing."""

    code = "restored"


class HistoryError(UpdateError):
    """An update that contradicts what is here: other bytes at a known clock, another owner.

    One of the two is from a hub that was restored from a backup.
    """

    code = "history"


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
    """Sealed bytes that do not open: wrong key, altered, or moved from their place."""

    code = "seal"


class KeysError(RemoteError):
    """Bytes that are no keys, or a public key that nothing can be sealed to."""

    code = "keys"


class SignatureError(RemoteError):
    """Something that was not signed by whom it should be, or not for this purpose."""

    code = "signature"


class HeadError(RemoteError):
    """A signed chain head that does not parse."""

    code = "head"


class RosterError(RemoteError):
    """A roster entry that does not parse, or that the rules of its pool do not allow."""

    code = "roster"


class ConflictError(RosterError):
    """An entry for a place that is taken, or not reached yet: somebody else was faster.

    Read what is new, and build the entry anew if it is still wanted.
    """

    code = "conflict"
    permanent = False


class ForkError(RosterError):
    """A roster of another pool, or one that leaves out or replaces what is known of it.

    Whoever handed it out withholds entries, or shows different people different rosters.
    """

    code = "fork"


class PairingError(RemoteError):
    """A pairing that went wrong: another code, an altered message, or one out of turn.

    Nothing came of it, on this side for certain; a new code is needed.
    """

    code = "pairing"
