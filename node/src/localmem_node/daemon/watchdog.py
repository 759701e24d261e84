"""Ends a daemon whose event loop hangs: an editor waits 0.3 s for one that hangs, with every event,
and for none that is not there.

Time is counted in steps of the watching thread itself. While the machine sleeps, or the process is
stopped, no step is taken, and the long one at the end of it counts as one.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import Callable
from threading import Event, Thread
from typing import Final

logger = logging.getLogger(__name__)

STEP_S: Final = 2.0
STEPS_MAX: Final = 5
"""Steps in a row without a turn of the loop: 10 s, when nothing that a daemon does takes one."""

EXIT_CODE: Final = 70
"""EX_SOFTWARE of sysexits.h."""


class Watchdog:
    """Asks the loop for a sign of life with every step."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        hung: Callable[[], None] | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """`hung` is called, once, when the loop hangs: by default the end of the process. `wait`
        sleeps so many seconds, and says whether to stop."""
        self._loop = loop
        self._stopping = Event()
        self._hung = hung or end
        self._wait = wait or self._stopping.wait
        self._turned = True
        self._thread = Thread(target=self._run, name="localmem-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        silent = 0
        while not self._wait(STEP_S):
            silent = 0 if self._turned else silent + 1
            if silent >= STEPS_MAX:
                self._hung()
                return
            if self._turned:
                self._turned = False
                try:
                    self._loop.call_soon_threadsafe(self._turn)
                except RuntimeError:  # the loop is closed
                    return

    def _turn(self) -> None:
        self._turned = True


def end() -> None:
    """Say where every thread is, and end at once; what was acknowledged is on disk."""
    logger.critical("the event loop has not turned for %d s; ending", STEP_S * STEPS_MAX)
    sys.stderr.flush()
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    os._exit(EXIT_CODE)
