"""The encrypted ring file: what a device remembers, on its own disk (docs/ring-file.md).

Above: the engine, through `event_store.EventStore`, which `opening` makes. Below: one file, through
`seams.Disk`, and a key, through `seams.KeyStore`.
"""
