"""Every bound of the protocol, with its reason. Nothing is read from a peer without one."""

from typing import Final

SNIPPET_BYTES_MAX: Final = 64 * 1024
"""UTF-8 bytes of one snippet; longer text belongs in the file it came from."""

PATH_BYTES_MAX: Final = 4096
"""UTF-8 bytes of a path; PATH_MAX on Linux."""

LABEL_BYTES_MAX: Final = 128
"""UTF-8 bytes of a tool, session or project name."""

LINE_MAX: Final = 2**31 - 1
"""Highest line number; what editors hold in a signed 32-bit integer."""

TIMESTAMP_MS_MAX: Final = 2**47 - 1
"""Latest wall time, in the year 6429; leaves the hybrid clock its 16 counter bits and a sign."""

DRIFT_MS_MAX: Final = 24 * 3600 * 1000
"""How far ahead of ours a peer's clock may pull our hybrid clock; a broken clock must not."""

MARK_MAX: Final = 2**63 - 1
"""Highest clock reading or sequence; a signed 64-bit integer holds it."""

BATCH_EVENTS_MAX: Final = 256
"""Events in one batch."""

BATCH_TOMBSTONES_MAX: Final = 1024
"""Tombstones in one batch; who forgets more sends more batches."""

BATCH_HEADS_MAX: Final = 64
"""Signed chain heads in one batch; a device signs one for each of its client ids."""

HEAD_BYTES_MAX: Final = 256
"""Bytes of one signed chain head."""

BATCH_VIEWS_MAX: Final = 64
"""Chains of others in one batch that a device says how far it has; the rest comes with the next."""

VIEWS_WAITING_MAX: Final = 4096
"""Views of others that wait to be compared; a member that makes them up pushes out old ones."""
BATCH_WANTS_MAX: Final = 256
"""Wants in one batch: each is answered with an event, so as many as those."""

BATCH_PLAIN_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes a batch may unpack to; stops compression bombs."""

BATCH_SEALED_BYTES_MAX: Final = 2 * 1024 * 1024
"""Bytes of one sealed batch, tag included."""

SEGMENT_BATCHES_MAX: Final = 32
"""Batches of a segment: what must be fetched, and kept, to open its last one."""

UPDATE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of one Yjs update on the wire."""

STEP_BYTES: Final = 2 * 1024 * 1024
"""Sealed bytes of one answer to a state vector; who lacks more asks again. Must leave one update
room for a largest batch beside it."""

UPDATE_STRUCTS_MAX: Final = 65_536
"""Structs of one Yjs update."""

FRAME_BYTES_MAX: Final = UPDATE_BYTES_MAX + 64
"""Bytes of one frame."""

CLIENTS_MAX: Final = 4096
"""Client ids of one pool: devices times their incarnations."""

CLIENTS_PER_DEVICE_MAX: Final = 256
"""Client ids of one device in a room: one more for each time that it was restored or copied. So nobody
uses up those of all."""

CLOCK_MAX: Final = 2**31 - 1
"""Clocks of one client id, deleted ones included. CRDT libraries count them in 32 bits, some of them
signed, and fail or panic beyond; at a batch a second it lasts 68 years."""

CLIENT_ID_MAX: Final = 2**31 - 1
"""Highest client id; hubs hand out small ones, which are short on the wire."""

CLIENT_ID_BITS: Final = 14
"""Bits of the client ids that a hub draws: two bytes on the wire, twice in each update. A hub that was
restored from a backup draws one of k that it gave away since with a chance of k / 16256; devices notice
that, and begin anew. A third byte would cost every pool more than that, for ever."""

NAME_BYTES_MAX: Final = 64
"""Bytes of a root name (a device id) in a sealed document, and of a capability."""

QUEUED_UPDATES_MAX: Final = 1024
"""Updates a room holds uncommitted from one peer before it stops reading from it."""

OUTGOING_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes queued for one slow reader before the hub lets it go; it catches up by state vector."""

ROSTER_MEMBERS_MAX: Final = 256
"""Devices of one pool at a time; a key for each stands in every rotation."""

ROSTER_ENTRIES_MAX: Final = 4096
"""Entries of one roster, ever. Whoever joins checks the signature of each."""

ROSTER_ENTRY_BYTES_MAX: Final = 128 * 1024
"""Bytes of one entry: a rotation for most members, and an admission to most epochs, fit."""

ROSTER_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of all entries of one roster: what a hub keeps, and a joiner loads, of one pool."""

ADMITTED_EPOCHS_MAX: Final = 1024
"""Epochs whose keys one admission carries; with a rotation it still fits into an entry."""

EXCHANGE_BYTES_MAX: Final = FRAME_BYTES_MAX + 1024
"""Bytes of the body of one request or answer: a largest frame, and what stands around it."""

EXCHANGE_FRAMES_MAX: Final = QUEUED_UPDATES_MAX
"""Frames of one body; what a room takes from one peer before a commit."""

POSITION_BYTES_MAX: Final = 64
"""ASCII characters of a position in a pool's log, which is also an HTTP entity tag."""

MAILBOX_MAX: Final = 999_999
"""Highest number of a mailbox in which a hub relays a pairing; people type it."""

PAIRING_BYTES_MAX: Final = 4096
"""Bytes of one message of a pairing; the largest one carries a hub's address and a token."""

ADDRESS_BYTES_MAX: Final = 1024
"""UTF-8 bytes of a hub's address, and of a token."""
