"""The bounds of plain rooms, each with its reason."""

from typing import Final

UPDATE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of one update, and of one message around it; what somebody wrote offline comes as one."""

MESSAGE_BYTES_MAX: Final = UPDATE_BYTES_MAX + 64
"""Bytes of one message."""

DOCUMENT_BYTES_MAX: Final = 32 * 1024 * 1024
"""Encoded bytes of one document: some 400 MB in the memory of a worker, which may have WORKER_BYTES."""

HELD_BYTES_MAX: Final = 48 * 1024 * 1024
"""Encoded bytes of the documents that one worker holds; those used longest ago leave first."""

CLOCK_MAX: Final = 2**31 - 1
"""Highest clock of a client: yrs counts in 32 bits, and a garbage-collected run costs no bytes."""

STRUCTS_MAX: Final = 2_000_000
"""Structs and deleted ranges of one update; eight million bytes cannot name many more."""

DEPTH_MAX: Final = 64
"""Lists and objects within each other in one value; the library reads them by recursion."""

VECTOR_CLIENTS_MAX: Final = 1_000_000
"""Clients of a state vector. Every tab that was ever opened is one."""

TURN_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes that a room hands to its worker at once; the rest is the next turn."""

GATHERED_FRAMES_MAX: Final = 1024
"""Messages that one connection may have waiting in a room; then the hub stops reading from it."""

GAPS_MAX: Final = 4
"""Updates in a row whose dependencies are missing, before their sender has to connect again."""

AWARENESS_BYTES_MAX: Final = 64 * 1024
"""Bytes of one awareness message: a few states, not files."""

AWARENESS_CLIENTS_PER_CONNECTION: Final = 32
"""Awareness states that one connection may hold; a tab has one, tabs may speak for each other."""

AWARENESS_CLIENTS_MAX: Final = 4096
"""Awareness states of a room."""

AWARENESS_ROOM_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of all awareness states of a room: they are in memory, and whoever comes is sent them."""

AWARENESS_GONE_MAX: Final = 4096
"""States that are remembered as ended, so that a late echo does not bring them back."""

WORKERS_MAX: Final = 64
"""Worker processes that a hub may be told to run."""

WORKER_BYTES: Final = 1536 * 1024 * 1024
"""Address space of a worker; a document that wants more ends it, and nothing else."""

WORKER_CPU_SECONDS: Final = 1.0
"""Processor time of one call of a worker before it ends itself…"""

WORKER_CPU_SECONDS_PER_MIB: Final = 2.0
"""…and more for each MiB that the call carries, or that the document has."""

WORKER_WALL_FACTOR: Final = 10.0
"""How much longer a call may take by the clock, on a machine that is busy, before it is killed."""

WORKER_EXIT_SECONDS: Final = 2.0
"""How long a worker that was told to end may take."""

CATCH_UPS_MAX: Final = 8
"""How often a commit is tried again because another process wrote to the room."""

LOADS_MAX: Final = 4
"""How often a document is loaded for one call: a worker may end, or let it go, in between."""
