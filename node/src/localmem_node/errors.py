"""Every error of a node.

NodeError
├── ConfigError             a setting that is wrong (names it)
├── QueryError              a query that cannot be asked: k < 1, too long
├── StoreError              the ring file
│   ├── ForeignFile         not a localmem store
│   ├── WrongVersion        a store of another version
│   ├── WrongKey            the key does not fit
│   ├── DamagedStore        both headers are unreadable
│   ├── StoreBusy           another process owns it
│   ├── StoreFailed         a write or sync failed: nothing more is acknowledged until reopened
│   ├── PinsFull            no more can be pinned in a store of this size
│   └── DamagedIndex        a saved index that does not load: it is rebuilt from the events
├── KeyUnavailable          no key, or no place to keep one
├── EncoderUnavailable      the model or its tokenizer is missing or does not load
├── DaemonError             the daemon did not start, does not answer, or refused (`code` says which)
│   └── DaemonTimeout       it did not answer in time
├── BodyTooLarge            a request that is larger than the daemon takes
├── WatchTooSlow            who watched did not read fast enough; what was missed can be asked for
├── TooManyWatches          more programs watch than a daemon tells
├── TransferError           an export or import that cannot be made
│   ├── ForeignExport       not a file that localmem exported
│   ├── WrongExportVersion  an export of another version of the format
│   ├── WrongPassphrase     the passphrase does not open a sealed export
│   └── DamagedExport       an export that was cut off or altered (names the line)
├── InstallError            an editor's settings cannot be changed; none were
│   └── SettingsRefused     a file that is not understood (names line and column)
├── SyncError               the hub refused, or is not set up
│   ├── HubRefused          a hub that says no to a request, and why (its HTTP status and code)
│   └── RemovedError        a pool that this device is in no more
└── HistoryError            the history of a git repository cannot be read
    ├── GitMissing          git is not installed
    ├── NotARepository      there is no git repository
    └── NoCommits           it has no commits yet

Every message says what happened and what to do, in one line.
"""

from __future__ import annotations

from collections.abc import Mapping


class NodeError(Exception):
    """Base of every error of this package."""


class ConfigError(NodeError):
    """A setting that is wrong; the message names it."""


class QueryError(NodeError):
    """A query that cannot be asked; `field` is the argument that is wrong."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class StoreError(NodeError):
    """The ring file cannot be used."""


class ForeignFile(StoreError):
    """The file is not a localmem store."""


class WrongVersion(StoreError):
    """The store was written by another version of the format."""


class WrongKey(StoreError):
    """The key does not open this store."""


class DamagedStore(StoreError):
    """Both headers are unreadable."""


class StoreBusy(StoreError):
    """Another process owns the store."""


class StoreFailed(StoreError):
    """A write or sync failed; nothing more is acknowledged until the store is reopened."""


class PinsFull(StoreError):
    """No more can be pinned in a store of this size."""


class DamagedIndex(StoreError):
    """A saved index that does not load; the index is rebuilt from the events."""


class KeyUnavailable(NodeError):
    """No key, or no place to keep one."""


class EncoderUnavailable(NodeError):
    """The model or its tokenizer is missing or does not load; words alone can still be searched."""


class DaemonError(NodeError):
    """The daemon did not start, does not answer, or refused: `code` is "daemon", or its reason."""

    def __init__(self, message: str, code: str = "daemon") -> None:
        super().__init__(message)
        self.code = code


class DaemonTimeout(DaemonError):
    """The daemon did not answer in time. What was sent may or may not be done."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "timeout")


class BodyTooLarge(NodeError):
    """A request that is larger than the daemon takes."""


class WatchTooSlow(NodeError):
    """Who watched did not read fast enough, and lost its place."""


class TooManyWatches(NodeError):
    """More programs watch than a daemon tells."""


class TransferError(NodeError):
    """An export or import that cannot be made."""


class ForeignExport(TransferError):
    """Not a file that localmem exported."""


class WrongExportVersion(TransferError):
    """An export of another version of the format."""


class WrongPassphrase(TransferError):
    """The passphrase does not open a sealed export."""


class DamagedExport(TransferError):
    """An export that was cut off or altered; the message names the line or the chunk."""


class InstallError(NodeError):
    """An editor's settings cannot be changed; what was changed before that is undone."""


class SettingsRefused(InstallError):
    """A file of settings that is not to be touched; the message says where, and what to do."""


class SyncError(NodeError):
    """The hub refused, or sync is not set up."""


class HubRefused(SyncError):
    """A hub said no: the HTTP status, its own code ("" if it gave none), and what stood beside it."""

    def __init__(self, status: int, code: str, message: str, more: Mapping[str, object]) -> None:
        super().__init__(f"the hub refused: {message}")
        self.status = status
        self.code = code
        self.more = more


class RemovedError(SyncError):
    """A pool that this device is in no more."""

    def __init__(self, pool: str) -> None:
        super().__init__(f"this device is not in the pool {pool} any more")


class HistoryError(NodeError):
    """The history of a git repository cannot be read."""


class GitMissing(HistoryError):
    """git is not installed."""


class NotARepository(HistoryError):
    """There is no git repository at this path."""


class NoCommits(HistoryError):
    """The repository has no commits yet."""


class DemoError(NodeError):
    """The demo cannot run, or something that it shows did not happen."""
