"""Something that is done in another thread while the caller is busy outside the interpreter.

An encoder runs without the interpreter's lock: what else a query needs can be done meanwhile. Handing
it over costs the caller some microseconds; fetching it nothing, if it is done. Whatever the thread has
not begun by then (one that other work keeps from a core) the caller does itself, so that nobody waits
for a thread to be woken.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class Task(Generic[T]):
    """Work that is done once, by whoever comes first."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._claimed = Lock()
        self._running = Lock()
        self._running.acquire()
        self._value: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do it, unless somebody does already."""
        if not self._claimed.acquire(blocking=False):
            return
        try:
            self._value = self._work()
        except BaseException as error:
            self._error = error
        finally:
            self._running.release()

    def result(self) -> T:
        """What the work gave; done here if nobody has begun. Raises what it raised."""
        self.run()
        with self._running:
            if self._error is not None:
                raise self._error
            return self._value  # type: ignore[return-value]  # T may be None


class Beside:
    """One thread, which is started by the first task. Thread-safe."""

    def __init__(self, name: str, *, cores: int | None = None) -> None:
        """With one core (by default those that this process may use are counted) there is no thread."""
        self._name = name
        self._alone = (usable_cores() if cores is None else cores) < 2
        self._tasks: SimpleQueue[Task[object] | None] = SimpleQueue()
        self._lock = Lock()
        self._thread: Thread | None = None

    def begin(self, work: Callable[[], T]) -> Task[T]:
        """A task that is done at the latest by `Task.result`."""
        task = Task(work)
        if not self._alone:
            if self._thread is None:
                self._start()
            self._tasks.put(task)  # type: ignore[arg-type]  # nobody looks at what it gives
        return task

    def close(self) -> None:
        """End the thread, after what it has begun. Tasks go on to work without it."""
        with self._lock:
            thread, self._alone = self._thread, True
        if thread is not None:
            self._tasks.put(None)
            thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._alone:
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()
            del task  # what it holds may be large, and the next may be long in coming


def usable_cores() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
