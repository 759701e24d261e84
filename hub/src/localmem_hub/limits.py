"""The hub's own bounds, each with its reason; those of the wire are in `localmem_protocol.limits`."""

from typing import Final

GATHERED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes that one connection may have in the commit that is being gathered; then it waits."""

QUARANTINE_ROWS_MAX: Final = 64
"""Refused updates kept per pool; the oldest go first."""

QUARANTINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of refused updates kept per pool; a broken device must not fill the disk."""

COMPACT_ROWS: Final = 1024
"""Rows since the last snapshot that are worth a new one: about 50 ms of loading."""

DRAIN_SECONDS: Final = 5.0
"""How long a stopping hub waits for its last commits, and then for its connections to close."""

CLOSE_SECONDS: Final = 5.0
"""How long a connection that was dropped may take to read why."""

RECHECK_SECONDS: Final = 30.0
"""How often the tokens of live connections are looked up again."""

SEEN_MS: Final = 60_000
"""How exact a token's last use is; finer would cost a disk sync per connection."""

BUSY_MS: Final = 10_000
"""How long SQLite waits for another process, such as `localmem-hub token`."""

WEBSOCKET_BYTES_MAX: Final = 16 * 1024 * 1024
"""Largest WebSocket message taken in, so that one over the frame limit is told so by its code."""
