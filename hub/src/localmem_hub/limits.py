"""The hub's own bounds, each with its reason; those of the wire are in `localmem_protocol.limits`."""

from typing import Final

DAY_MS: Final = 24 * 3600 * 1000

GATHERED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes that one connection may have in the commit that is being gathered; then it waits."""

QUARANTINE_ROWS_MAX: Final = 64
"""Refused updates kept per pool; the oldest go first."""

QUARANTINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of refused updates kept per pool; a broken device must not fill the disk."""

COMPACT_ROWS: Final = 1024
"""Rows since the last snapshot that are worth a new one: about 50 ms of loading."""

ERASE_SECONDS: Final = 2.0
"""How long what was forgotten may stay in the tables, so that several forgettings share a snapshot."""

STOP_SECONDS: Final = 16.0
"""How long a hub may take to stop, unless `stop_seconds` says otherwise: less than the patience of those
who stop it (systemd's 90 s, the 20 s of the compose files)."""

STOP_STEPS: Final = 6
"""The last commits; telling everybody; the workers of plain rooms, or telling other replicas; the
goodbyes; and what the server has left: each may take as long as the others. They are one more than
those five, since what lies between them takes its time as well: 0.2 s and more of the server's own. So
a hub whose steps all take as long as they may is not ended as one that does not stop, unless it has
less than two seconds."""

GOODBYE_SECONDS: Final = 0.02
"""How often a stopping hub looks whether everybody has said goodbye."""

DRAIN_SECONDS: Final = STOP_SECONDS / STOP_STEPS
"""How long one of them may take then."""

LAST_WORDS_SECONDS: Final = 1.0
"""How long a replica that stops waits at most until the others were told what it stored last."""

PROBE_SECONDS: Final = 2.0
"""How often a hub without room on its disk tries whether there is some again."""

PROBE_BYTES: Final = 256 * 1024
"""What it tries to store: a few updates, so that it does not go on for the sake of one."""

DISK_FREE_MB: Final = 100
"""Free megabytes below which a hub is not ready: time to act before updates are refused."""

READY_SECONDS: Final = 2.0
"""How long `/readyz` waits for the database; whoever asks gives up soon after."""

CLOSE_SECONDS: Final = 5.0
"""How long a connection that was dropped may take to read why."""

RECHECK_SECONDS: Final = 30.0
"""How often the tokens of live connections are looked up again, whatever was heard."""

CHANGES_SECONDS: Final = 0.25
"""How often it is looked whether a token was revoked or has expired. Its connections have to be gone
within a second."""

SEEN_MS: Final = 60_000
"""How exact a token's last use is; finer would cost a disk sync per connection."""

BUSY_MS: Final = 10_000
"""How long the database waits for another process, such as `localmem-hub token`."""

STATEMENT_MS: Final = 30_000
"""How long one statement of PostgreSQL may take; far more than to load a pool."""

IDLE_MS: Final = 3_000
"""How long a transaction may be open while its process does nothing: less than BUSY_MS, so that those
who wait for the lock of a replica that was stopped get it."""

CONNECT_SECONDS: Final = 5
"""How long connecting to PostgreSQL may take."""

DATABASE_CONNECTIONS_MAX: Final = 6
"""Connections of one replica: its writer, its readers, the one that looks, and those that hold a
compaction's lock. The one that listens and the one that tells come on top."""

COMPACTIONS_MAX: Final = 1
"""Rooms that are compacted at a time. Each keeps one of DATABASE_CONNECTIONS_MAX while it waits for
others, and one of two readers is left for rooms that are loaded."""

CATCH_UP_SECONDS: Final = 2.0
"""How long a commit that holds its pools' locks waits for its rooms; less than IDLE_MS."""

POOLS_ASKED_MAX: Final = 500
"""Pools that one statement asks for."""

HEARTBEAT_SECONDS: Final = 0.2
"""How often a replica proves that it hears the database."""

REACH_SECONDS: Final = 1.0
"""How long a replica serves without that proof: as long as a revoked token may go on working."""

LISTENER_END_SECONDS: Final = 1.0
"""How long a stopping replica waits for the thread that listens."""

REACH_CHECK_SECONDS: Final = 0.1
"""How often it looks whether that is over."""

RECONNECT_SECONDS: Final = 0.2
"""How long a replica waits before it connects again to listen."""

POLL_SECONDS: Final = 5.0
"""How often a replica looks at the pools that it has in use, in case a signal got lost."""

POLL_LOST_SECONDS: Final = 1.0
"""The same while the fan-out is away: others may not know that, and tell nobody else."""

CHALLENGE_MS: Final = 60_000
"""How long a challenge may be answered."""

REFUSAL_SECONDS: Final = 0.1
"""A wrong proof is answered after a multiple of this: how long it took to find the keys of a pool must
not say whether there is such a pool."""

SESSION_MS: Final = 3_600_000
"""How long a session token opens connections; the roster is looked up at each use all the same."""

ROSTER_PAGE_BYTES: Final = 1024 * 1024
"""Entries in one answer, at least one; who lacks more asks again."""

ROSTERS_CACHED_BYTES: Final = 32 * 1024 * 1024
"""Encoded entries whose verified rosters are kept in memory; those used longest ago go first."""

RECOVERED_POOLS_MAX: Final = 1000
"""Pools that one recovery key is told of."""

SMALL_BODY_BYTES: Final = 4096
"""Body of a request that carries no entry and no message."""

ENTRY_BODY_BYTES: Final = 192 * 1024
"""Body of a request with a roster entry: its 128 KiB in base64, and what stands around it."""

BODY_SECONDS: Final = 10.0
"""How long a request may take to arrive."""

PAST_SECONDS: Final = 3600.0
"""How often epochs that have been over for long are looked for."""

PAST_EPOCHS_DAYS: Final = 90
"""How long the document of an epoch that is over waits for members who have not read it."""

MAILBOX_MS: Final = 600_000
"""How long a mailbox is there: time to walk from one machine to the other."""

MAILBOX_MESSAGES_MAX: Final = 8
"""Messages in a mailbox, half of them from each side."""

MAILBOX_MESSAGE_BYTES: Final = 64 * 1024
"""Bytes of one message in a mailbox."""

MAILBOXES_MAX: Final = 1000
"""Mailboxes at a time; keeps their numbers at four digits, and what strangers store at 500 MiB."""

MAILBOX_WAIT_S: Final = 25
"""Longest wait for a message in one request; proxies cut at 30 s or more."""

MAILBOX_POLL_S: Final = 1.0
"""How often a waiting request looks for what came in through another process."""

SWEEP_SECONDS: Final = 60.0
"""How often expired mailboxes are looked for."""

ADDRESSES_MAX: Final = 10_000
"""Addresses whose requests are counted; those seen longest ago are forgotten first."""

WEBSOCKET_BYTES_MAX: Final = 16 * 1024 * 1024
"""Largest WebSocket message taken in, so that one over the frame limit is told so by its code."""

TURN_MESSAGES_MAX: Final = 256
"""Messages of one connection that are heard before others have their turn: some ten milliseconds."""

WAIT_SECONDS_MAX: Final = 25
"""How long a request may wait for news; proxies give up after 30 seconds or more."""

TELL_SECONDS: Final = 0.1
"""After a moment at which devices are to be told who is there; two clocks are at work."""

LOOK_SECONDS: Final = 5.0
"""How often a request that waits looks for what another process stored."""

VISIT_ATTEMPTS: Final = 3
"""How often a request is carried out when another process writes to its pool at the same time."""

LINGER_SECONDS: Final = 60.0
"""How long a room stays in memory after the last request, for the next one."""

LINGERING_MAX: Final = 32
"""Rooms that stay so; a hub with many pools must not hold them all."""

KEEP_ALIVE_SECONDS: Final = 360
"""How long a quiet HTTP connection is kept: longer than a device pauses between two requests."""

HEAD_SECONDS: Final = 10.0
"""How long the head of a request, or a WebSocket's handshake, may take to arrive."""

HEAD_BYTES_MAX: Final = 64 * 1024
"""Bytes of such a head; those of devices and browsers have a few hundred."""
