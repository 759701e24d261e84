"""A process to be killed: appends and commits, and prints what was acknowledged.

Usage: python recorder.py PATH FIRST SIZE
"""

from __future__ import annotations

import sys
from pathlib import Path

from localmem_node.store.opening import open_event_store
from localmem_node.system import SystemRandom
from support.events import event
from support.store_keys import FixedKeyStore


def main() -> None:
    """Go on until killed."""
    path, first, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    store = open_event_store(path, FixedKeyStore(), SystemRandom(), size=size)
    number = first
    while True:
        events = [event(number + index) for index in range(1 + number % 4)]
        ordinals, evicted, _ = store.append(events)
        # Reported before the commit: from here on these may be gone.
        sys.stdout.write("".join(f"- {ordinal}\n" for ordinal in evicted))
        sys.stdout.flush()
        store.commit()
        for ordinal, offered in zip(ordinals, events, strict=True):
            sys.stdout.write(f"+ {ordinal} {offered.sequence}\n")
        sys.stdout.flush()
        number += len(events)


if __name__ == "__main__":
    main()
