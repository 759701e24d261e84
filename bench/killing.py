"""A daemon that is killed while clients hammer it.

Clients record without a pause; the daemon gets SIGKILL at moments that a seed draws: at work, while
it closes after SIGTERM, which is when it writes its checkpoint, while it starts, or (`ready`) as soon
as it has. Whoever needs it next starts it again. After every kill, before anybody can, the file is
copied, and the copy opened and compared with what the clients were told (`bench.acknowledged`).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Final, Literal, TypeVar, get_args

import numpy as np

from bench.acknowledged import NAME_LETTERS, Ledger, Result, compare, edit
from bench.daemons import daemons_of, environment
from localmem_node.client import DaemonClient
from localmem_node.daemon.state import launch_lock_path, read_state
from localmem_node.doctor import checks
from localmem_node.errors import DaemonError, NodeError
from localmem_node.files import try_lock
from localmem_node.results import parse_event
from localmem_node.service import RECORD_EVENTS_MAX
from localmem_node.store.keys import KeyFileStore

ROOMY_BYTES: Final = 16 * 2**20
"""A store from which nothing makes room for anything in a round."""

TIGHT_BYTES: Final = 2**20
TIGHT_EVENTS: Final = 2048
"""The smallest store with vectors and index, and the events that fill it: from then on it wraps."""

CLIENTS: Final = 4
CALL_EVENTS_MAX: Final = 3
WAIT_S: Final = 60.0
SEARCHES: Final = 20

Moment = Literal["working", "closing", "starting"]
MOMENTS: Final[Sequence[Moment]] = get_args(Moment)
DELAY_S: Final[Mapping[Moment, float]] = {"working": 0.25, "closing": 0.15, "starting": 0.35}
"""The longest time to the kill: from readiness, from SIGTERM, from the first sign of the process.

On a quiet machine a daemon is ready after 0.27 s, and has closed after 0.12 s.
"""

T = TypeVar("T")


def run(
    kills: int, *, size: int, seed: int, before: int = 0, eviction: str = "relevance"
) -> Result:
    """One round: a new store of `size` bytes, and a daemon that is killed `kills` times.

    `before` events are recorded in peace first: enough of them, and the ring wraps from then on.
    """
    with tempfile.TemporaryDirectory(prefix="lm-") as folder:
        return Round(Path(folder), size, seed, eviction).run(kills, before)


class Round:
    """A home, the clients of its daemon, and the hand that kills it."""

    def __init__(self, folder: Path, size: int, seed: int, eviction: str) -> None:
        self._copy = folder / "copy"
        self._home = folder / "home"
        self._home.mkdir(mode=0o700)
        key = self._home / "store.key"
        # A key file: stretching a passphrase would be most of the time that a daemon takes to start.
        self._environment = environment(
            self._home,
            LOCALMEM_KEY_FILE=str(key),
            LOCALMEM_SIZE=str(size),
            LOCALMEM_EVICTION=eviction,
        )
        self._keystore = KeyFileStore(key)
        self._size, self._seed, self._eviction = size, seed, eviction
        self._chance = np.random.default_rng(seed)
        self._ledger = Ledger()
        self._done = Flag()
        self._result = Result()

    def run(self, kills: int, before: int) -> Result:
        """Hammer and kill until it is enough; then look at what is left."""
        with DaemonClient(self._environment) as client:
            client.ensure_running()
            try:
                for first in range(1, before + 1, RECORD_EVENTS_MAX):
                    last = min(first + RECORD_EVENTS_MAX - 1, before)
                    self._record(client, CLIENTS, first, last)
                with self._hammering():
                    while self._result.kills < kills and not self._ledger.problems:
                        self._kill(client, MOMENTS[int(self._chance.integers(len(MOMENTS)))])
                self._inspect(client)
            finally:
                client.stop()
        left = self._compared(client.settings.store_path)
        self._result.add(left)
        self._result.evicted = left.evicted  # of all; those before it counted many of them again
        self._result.acknowledged = len(self._ledger.events())
        self._result.problems += self._ledger.problems
        return self._result

    @contextmanager
    def _hammering(self) -> Iterator[None]:
        clients = [Thread(target=self._hammer, args=(number,)) for number in range(CLIENTS)]
        for thread in clients:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in clients:
                thread.join()

    def _hammer(self, client: int) -> None:
        """Be a client: what was sent and not answered may be there or not."""
        last = 0
        with DaemonClient(self._environment) as daemon:
            while not self._done.is_set():
                first, last = last + 1, last + 1 + last % CALL_EVENTS_MAX
                try:
                    self._record(daemon, client, first, last)
                except DaemonError:
                    continue
                except NodeError as error:  # a store that does not open, among others
                    self._ledger.problems.append(f"{type(error).__name__}: {error}")
                    return

    def _record(self, daemon: DaemonClient, client: int, first: int, last: int) -> None:
        sent = [edit(self._seed, client, number) for number in range(first, last + 1)]
        answer = daemon.record(sent)
        recorded = [parse_event(event) for event in answer["recorded"]]
        for event in recorded:
            self._ledger.acknowledge(event)
        if [event.snippet for event in recorded] != [one["snippet"] for one in sent]:
            self._ledger.problems.append(f"sent {len(sent)} events, answered {answer}")

    def _kill(self, client: DaemonClient, moment: Moment) -> None:
        """Kill the daemon at such a moment, and compare the file before there is another.

        Nobody else starts a daemon while we hold the launch lock; while one starts, the client that
        needs it does.
        """
        if moment == "starting":
            _awaited(lambda: daemons_of(self._home), "a daemon")
            self._pause(moment)
            self._count(moment, _signal(daemons_of(self._home), signal.SIGKILL))
        else:
            _awaited(lambda: self._ready(client), "a daemon that is ready")
            self._pause("working")
        with _launch_lock(client):
            victims = daemons_of(self._home)
            if moment == "closing":
                _signal(victims, signal.SIGTERM)
                self._pause(moment)
            self._count(
                "ready" if moment == "starting" else moment, _signal(victims, signal.SIGKILL)
            )
            self._look(client)

    def _ready(self, client: DaemonClient) -> bool:
        state = read_state(client.settings)
        return state is not None and state.pid in daemons_of(self._home)

    def _look(self, client: DaemonClient) -> None:
        """Compare a copy of the file, while there is no daemon."""
        found = self._compared(Path(shutil.copy(client.settings.store_path, self._copy)))
        self._result.add(found)

    def _compared(self, path: Path) -> Result:
        told = self._ledger.events()
        return compare(path, self._keystore, self._size, self._seed, told, self._eviction)

    def _pause(self, moment: Moment) -> None:
        time.sleep(DELAY_S[moment] * float(self._chance.random()))

    def _count(self, moment: str, killed: int) -> None:
        self._result.kills += killed
        self._result.moments[moment] += killed

    def _inspect(self, client: DaemonClient) -> None:
        """What the daemon that lives says: its newest events are found by their words."""
        newest = client.recent(SEARCHES)["events"]
        for event in newest:
            answer = client.query(event["snippet"][:NAME_LETTERS], 1)["events"]
            self._result.not_found += [one["id"] for one in answer] != [event["id"]]
        own = self._environment | {"HOME": self._environment["LOCALMEM_HOME"]}  # no editors there
        wrong = [check for check in checks(own) if not check.ok]
        self._result.problems += [f"doctor: {check.name}: {check.detail}" for check in wrong]


@contextmanager
def _launch_lock(client: DaemonClient) -> Iterator[None]:
    """Nobody starts a daemon in here."""
    path = launch_lock_path(client.settings)
    descriptor = _awaited(lambda: try_lock(path), "the lock of those who start daemons")
    try:
        yield
    finally:
        os.close(descriptor)


def _signal(pids: Sequence[int], number: signal.Signals) -> int:
    """Signal these daemons, and after SIGKILL wait for their end; how many still lived."""
    reached = 0
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(descriptor, number)
            reached += 1
            if number == signal.SIGKILL:
                select.select([descriptor], [], [], WAIT_S)
        except ProcessLookupError:
            continue
        finally:
            os.close(descriptor)
    return reached


def _awaited(look: Callable[[], T | None], what: str) -> T:
    """What `look` returns once that is not nothing. Raises DaemonError after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise DaemonError(f"waited {WAIT_S:.0f} s for {what}; see the daemon's log")
        time.sleep(0.002)
    return seen
