"""Every error of a hub.

HubError
├── ConfigError             a setting or argument that is wrong (names it)
│   └── PlainStoreError     plain rooms on a database of several hubs
├── ListenError             the address cannot be listened on
├── TokenError              a device that may not come in; the reason is for its user
├── AdmissionError          a pool that may not be made here; the reason is for its founder
├── LengthError             a roster has another length than was expected (carries it)
├── RefusedError            a connection or request that ends with a close code (carries it)
├── StoppingError           the hub is going away: nobody comes in any more
└── StoreError              the database
    ├── MigrationError      its tables are not those of this release
    ├── InUseError          a hub has it, and must be stopped first
    ├── DamageError         what is stored does not load, of a pool or as a whole
    ├── SnapshotError       a snapshot that must not take the place of its rows
    └── CommitError         a transaction did not happen: nothing of it may be acknowledged
        ├── StaleError      …because another process wrote to the pool: load it again
        ├── DatabaseTimeoutError  …because the database took too long, or something held a lock
        ├── UnreachableError      …because the database cannot be reached at all
        └── FullError        …because there is no room on its disk

Every message says what happened and what to do, in one line; `code` is stable, for programs.
"""

from __future__ import annotations

from typing import ClassVar


class HubError(Exception):
    """Base of every error of this package."""

    code: ClassVar[str] = "hub"


class ConfigError(HubError):
    """A setting or argument that is wrong; the message names it."""

    code = "config"


class PlainStoreError(ConfigError):
    """Plain rooms on a database that several hubs may share: they do not follow each other's rooms."""

    def __init__(self) -> None:
        super().__init__(
            "plain: plain rooms need a database of one hub; give this one a SQLite file"
        )


class ListenError(HubError):
    """The address cannot be listened on."""

    code = "listen"


class TokenError(HubError):
    """The token is unknown, revoked, or another pool's or device's."""

    code = "token"


class AdmissionError(HubError):
    """No invitation, or one that is unknown, used up or expired."""

    code = "admission"


class LengthError(HubError):
    """The roster has `length` entries, not as many as whoever appends to it knows of."""

    code = "length"

    def __init__(self, length: int) -> None:
        super().__init__(f"the roster has {length} entries; fetch the rest and try again")
        self.length = length


class StoppingError(HubError):
    """The hub is going away; try again later."""

    code = "stopping"


class StoreError(HubError):
    """The database cannot be used."""

    code = "store"


class MigrationError(StoreError):
    """The tables are not those of this release."""

    code = "migration"


class InUseError(StoreError):
    """The database is to be changed under a hub that runs."""

    code = "in_use"

    def __init__(self) -> None:
        super().__init__("the database is in use; stop every hub on it first")


class DamageError(StoreError):
    """What is stored does not load, of a pool or as a whole."""

    code = "damage"


class SnapshotError(StoreError):
    """A snapshot that must not take the place of its rows: they stay."""

    code = "snapshot"


class CommitError(StoreError):
    """A transaction did not happen."""

    code = "commit"


class StaleError(CommitError):
    """Another process wrote to the pool since the room was loaded."""

    code = "stale"


class DatabaseTimeoutError(CommitError):
    """A statement took too long, or waited too long for a lock."""

    code = "timeout"


class UnreachableError(CommitError):
    """The database cannot be reached: it is down, starting, or the network is."""

    code = "unreachable"


class FullError(CommitError):
    """There is no room on the database's disk, or it does not let itself be written to."""

    code = "full"


class RefusedError(HubError):
    """This connection, or request, ends with a code of `frames.Close`."""

    code = "refused"

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.close_code = code
        self.reason = reason
