"""A daemon that hangs ends; one that was stopped, or slept with its machine, does not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from threading import Event

from localmem_node.daemon.watchdog import EXIT_CODE, STEPS_MAX, Watchdog

HANGING = """
import asyncio, sys, time
from localmem_node.daemon import watchdog
watchdog.STEP_S = 0.05

def wait_for_ever():
    while True:
        time.sleep(0.01)

async def main():
    watchdog.Watchdog(asyncio.get_running_loop()).start()
    await asyncio.sleep(0.3)
    print("turning", flush=True)
    if sys.argv[1] == "hang":
        wait_for_ever()
    await asyncio.to_thread(sys.stdin.readline)
    print("alive", flush=True)

asyncio.run(main())
"""


def process(how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HANGING, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_loop_that_hangs_ends_the_process_and_says_where() -> None:
    with process("hang") as hanging:
        said, complained = hanging.communicate(timeout=60)
    assert (said, hanging.returncode) == ("turning\n", EXIT_CODE)
    assert "wait_for_ever" in complained


def test_a_process_that_was_stopped_goes_on() -> None:
    with process("turn") as turning:
        assert turning.stdout is not None
        assert turning.stdin is not None
        assert turning.stdout.readline() == "turning\n"
        os.kill(turning.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, turning.pid, os.WSTOPPED | os.WNOWAIT)
        Event().wait(1.0)  # twenty of its steps
        os.kill(turning.pid, signal.SIGCONT)
        turning.stdin.write("\n")
        turning.stdin.flush()
        assert turning.stdout.readline() == "alive\n"
        assert turning.wait(60) == 0


async def test_as_long_as_the_loop_turns_nothing_ends() -> None:
    steps, done = 0, asyncio.Event()
    hung = Event()
    loop = asyncio.get_running_loop()

    def wait(seconds: float) -> bool:
        nonlocal steps
        steps += 1
        if steps > 10 * STEPS_MAX:
            loop.call_soon_threadsafe(done.set)
            return True
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)
        return False

    watchdog = Watchdog(loop, hung=hung.set, wait=wait)
    watchdog.start()
    await done.wait()
    watchdog.stop()
    assert not hung.is_set()


async def test_so_many_silent_steps_in_a_row_are_a_hang() -> None:
    loop, hung = asyncio.get_running_loop(), Event()
    steps: list[float] = []

    def wait(seconds: float) -> bool:
        steps.append(seconds)
        return False

    watchdog = Watchdog(loop, hung=hung.set, wait=wait)
    watchdog.start()
    assert hung.wait(60)  # the loop does not turn meanwhile
    watchdog.stop()
    assert len(steps) == STEPS_MAX + 1
