"""The worker processes of a hub: started when they are needed, killed when they do not answer.

A room is always the same worker's, so that its document is there from the last call. A worker that
ends, by itself or by force, is started anew by the next call; its documents are loaded again as they
are asked for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import zlib
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import Final, Protocol

from localmem_hub.errors import HubError
from localmem_hub.plain.calls import (
    LENGTH_BYTES,
    Answer,
    Call,
    Compact,
    Failed,
    Forget,
    Load,
    pack,
    read_answer,
)
from localmem_hub.plain.limits import DOCUMENT_BYTES_MAX, WORKER_EXIT_SECONDS, WORKER_WALL_FACTOR
from localmem_hub.plain.worker import cpu_seconds

log: Final = logging.getLogger(__name__)

_PASSED_ON: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


_OF_ITSELF: Final = {
    -number
    for number in (signal.SIGPROF, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)
}
"""Exit statuses of a worker that its call brought about: out of time, of stack, of memory."""


class WorkerError(HubError):
    """A worker ended in the midst of a call; `sure` is whether because of that."""

    code = "worker"

    def __init__(self, reason: str, *, sure: bool = False) -> None:
        super().__init__(reason)
        self.sure = sure


class Workshop(Protocol):
    """Whoever carries out calls."""

    async def call(self, room: str, call: Call) -> Answer:
        """Carry out a call for a room; Failed also when the worker did not survive it."""
        ...

    async def stop(self) -> None:
        """End; nothing is called any more."""
        ...


class Processes:
    """A workshop of `count` processes."""

    def __init__(self, count: int) -> None:
        self._workers = [_Worker() for _ in range(count)]
        self._compactor = _Worker()  # so that no room waits for another's snapshot

    async def call(self, room: str, call: Call) -> Answer:
        """As `Workshop` says."""
        worker = self._workers[zlib.crc32(room.encode()) % len(self._workers)]
        if isinstance(call, Compact):
            worker = self._compactor
        elif isinstance(call, Forget) and not worker.running:
            return Failed("nothing to forget")
        try:
            answer = await worker.call(call)
        except WorkerError as error:
            log.error("worker ended room=%s call=%s: %s", room, type(call).__name__, error)
            return Failed(str(error), error.sure)
        finally:
            if isinstance(call, Compact):
                await self._compactor.stop()  # compactions are rare, and their memory is large
        return answer

    @property
    def pids(self) -> list[int]:
        """Process ids of those that run."""
        return [worker.pid for worker in self._workers if worker.running]

    async def stop(self) -> None:
        """As `Workshop` says."""
        await asyncio.gather(*(worker.stop() for worker in [*self._workers, self._compactor]))


class _Worker:
    def __init__(self) -> None:
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def call(self, call: Call) -> Answer:
        """Raises WorkerError; then the process is gone."""
        async with self._turn:
            process = await self._started()
            answered = False
            try:
                async with asyncio.timeout(_wall_seconds(call)):
                    answer = await _exchange(process, pack(call))
                answered = True
                return answer
            except TimeoutError:
                raise WorkerError("no answer in time") from None
            except (asyncio.IncompleteReadError, ConnectionError):
                with suppress(TimeoutError):
                    async with asyncio.timeout(WORKER_EXIT_SECONDS):
                        await process.wait()
                status = process.returncode
                raise WorkerError(f"exit status {status}", sure=status in _OF_ITSELF) from None
            finally:
                if (
                    not answered
                ):  # also when the caller was cancelled: half an answer is in the pipe
                    self._process = None
                    await _kill(process)

    async def stop(self) -> None:
        async with self._turn:
            process, self._process = self._process, None
            if process is None:
                return
            if process.stdin is not None:
                process.stdin.close()
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(WORKER_EXIT_SECONDS):
                        await process.wait()
            finally:  # also when a hub that stops has no time for it
                await _kill(process)

    async def _started(self) -> Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        # -P: nothing is imported from the folder that the hub was started in.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "localmem_hub.plain.worker",
            str(os.getpid()),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,  # what a panic says may quote the document
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            limit=1024 * 1024,
        )
        return self._process


async def _exchange(process: Process, data: bytes) -> Answer:
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise ConnectionError("a worker without pipes")
    stdin.write(data)
    await stdin.drain()
    length = int.from_bytes(await stdout.readexactly(LENGTH_BYTES), "big")
    return read_answer(await stdout.readexactly(length))


async def _kill(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await asyncio.shield(process.wait())


def _wall_seconds(call: Call) -> float:
    held = 0 if isinstance(call, Load | Compact | Forget) else DOCUMENT_BYTES_MAX
    return WORKER_WALL_FACTOR * cpu_seconds(call, held)
