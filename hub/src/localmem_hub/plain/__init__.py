"""Plain Yjs rooms: documents of standard Yjs clients, which the hub can read.

Everything else of the hub handles sealed rooms. Here a document belongs to a process of its own
(`worker.py`), since its bytes come from anywhere and go into a CRDT library.
"""
