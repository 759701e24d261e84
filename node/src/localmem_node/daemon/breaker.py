"""The breaker: a process beside the daemon that sends hooks away while the daemon hangs.

    python -I -S breaker.py LISTENER CONTROL

The kernel takes connections for a daemon that hangs, and an editor waits for each of them until its
time is over. The breaker has the listening socket as well. It sleeps until somebody is in the queue, or
until the daemon tells through `CONTROL` that it has begun with a hook ("+"): either may be the one that
it hangs with. Then it asks the event loop for a sign of life ("?"), and, if there is none in time, takes
every connection from the queue and resets it, which no editor waits for. The answer to the same
question ("."), whenever it comes, makes it stop.

    asleep ── queue or "+" ──▶ pause ──▶ "?" ── "." ─────▶ asleep, or pause again for a "+" since then
                                          └── silence ──▶ "!", reset all ── "." ──▶ asleep

It ends with the daemon, however that ends: the other end of `CONTROL` is closed then. It hears no signal
but SIGKILL, so that whatever ends a whole group of processes leaves the order to the daemon.

It imports modules in C alone: so it is small, and at its place before an editor asks.
"""

# No `from __future__` and no `typing` here: each would be a file more to read.

import _signal  # type: ignore[import-not-found]
import _socket
import posix
import select
import sys

STEP_MS = 50
SILENT_STEPS = 4
"""With the pause of a step: 250 ms, when an editor waits for 300. Time is counted in steps, so that
one that both were stopped in counts as one."""

QUESTION, OPENED = b"?", b"!"
ANSWER, BEGUN = b".", b"+"

_RESET = (1).to_bytes(4, sys.byteorder) + bytes(4)
"""`struct linger`: on, and no time to send the rest."""

_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Ended(Exception):
    """The daemon is gone, or listens no longer."""


class Breaker:
    """Watches over the queue of a listening socket, which does not block."""

    def __init__(self, listener: _socket.socket, control: _socket.socket) -> None:
        self._listener, self._control = listener, control
        self._told, self._both = select.poll(), select.poll()
        self._told.register(control, select.POLLIN)
        self._both.register(control, select.POLLIN)
        self._both.register(listener, select.POLLIN)
        self._begun = False

    def run(self) -> None:
        """Watch until the daemon has ended. Raises Ended, OSError."""
        while True:
            while not self._begun and not self._is_asked():
                self._heard()
            # Most are served within milliseconds, and the daemon is not to be bothered before.
            self._is_answered(1)
            self._begun = False
            self._control.send(QUESTION)
            if not self._is_answered(SILENT_STEPS):
                self._control.send(OPENED)
                self._refuse_until_answered()

    def _is_asked(self) -> bool:
        """Wait for whatever comes; whether it is somebody in the queue, and nothing from the daemon."""
        events = dict(self._both.poll())
        if events.get(self._listener.fileno(), 0) & _BROKEN:
            raise Ended
        return self._control.fileno() not in events

    def _is_answered(self, steps: int) -> bool:
        """Whether the answer comes in so many steps, since the daemon last said anything."""
        for _ in range(steps):
            while self._told.poll(STEP_MS):
                if self._heard():
                    return True
        return False

    def _refuse_until_answered(self) -> None:
        self._refuse()
        while not (self._told.poll(0) and self._heard()):
            if self._is_asked():
                self._refuse()

    def _refuse(self) -> None:
        """Reset whoever waits. Raises OSError when nobody can be accepted any more."""
        while True:
            try:
                descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, ConnectionAbortedError):
                return
            connection = _socket.socket(fileno=descriptor)
            connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
            connection.close()

    def _heard(self) -> bool:
        """Take what the daemon said; whether it is the answer."""
        said = self._control.recv(64)
        if not said:
            raise Ended
        self._begun = self._begun or BEGUN in said
        return ANSWER in said


def main() -> None:
    """Be the breaker of the descriptors that the arguments name, then end the process."""
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_IGN)
    try:
        listener, control = (_socket.socket(fileno=int(each)) for each in sys.argv[1:3])
        Breaker(listener, control).run()
    except (Ended, OSError):  # either socket is of no use any more
        posix._exit(0)


if __name__ == "__main__":
    main()
