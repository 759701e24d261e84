"""Every error of a hub.

HubError
├── ConfigError             a setting or argument that is wrong (names it)
├── ListenError             the address cannot be listened on
├── TokenError              a device that may not come in; the reason is for its user
├── StoppingError           the hub is going away: nobody comes in any more
└── StoreError              the database
    ├── MigrationError      its tables are not those of this release
    ├── DamageError         what is stored of a pool does not load
    ├── SnapshotError       a snapshot that must not take the place of its rows
    └── CommitError         a transaction did not happen: nothing of it may be acknowledged
        └── StaleError      …because another process wrote to the pool: load it again

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


class ListenError(HubError):
    """The address cannot be listened on."""

    code = "listen"


class TokenError(HubError):
    """The token is unknown, revoked, or another pool's or device's."""

    code = "token"


class StoppingError(HubError):
    """The hub is going away; try again later."""

    code = "stopping"


class StoreError(HubError):
    """The database cannot be used."""

    code = "store"


class MigrationError(StoreError):
    """The tables are not those of this release."""

    code = "migration"


class DamageError(StoreError):
    """What is stored of a pool does not load."""

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
