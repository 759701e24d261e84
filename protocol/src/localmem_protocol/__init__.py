"""localmem's protocol: events, sealed batches, the shared document, sync frames."""

__version__ = "0.1.0"
