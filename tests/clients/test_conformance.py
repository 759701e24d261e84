"""Python's clients, in all their forms, do what every client of the daemon does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from localmem_node import AsyncMemory, Memory
from localmem_node.client import ANSWER_S, DaemonClient
from support.conformance import (
    AsyncClient,
    Case,
    Client,
    Run,
    SyncClient,
    cancels,
    cases,
    is_of_watch_or_time,
    names,
)
from support.daemon import daemons_of, environment

CALLS, REQUESTS, FAULTS = cases("calls"), cases("requests"), cases("faults")
# A call of a thread cannot be cancelled; what is left out beside is in test_killed_daemon.
OF_THREADS = [case for case in FAULTS if not cancels(case) and is_of_watch_or_time(case)]
FORMS = ["sync", "async"]

Homes = Mapping[str, Mapping[str, str]]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    """A home for each form, whose cases share a daemon."""
    root = tmp_path_factory.mktemp("homes")
    variables = {form: environment(root / form) for form in FORMS}
    yield variables
    for one in variables.values():
        with DaemonClient(one, start=False) as client:
            client.stop()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Client]]:
    """A memory of each form without a daemon, which all cases share."""
    root = tmp_path_factory.mktemp("embedded")
    with Memory.embedded(environment=environment(root / "sync")) as memory:
        own = asyncio.run(AsyncMemory.embedded(environment=environment(root / "async")))
        yield {"sync": SyncClient(memory), "async": AsyncClient(own)}
        asyncio.run(own.close())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of its own, whose daemons do not outlive the test."""
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run(form: str, variables: Mapping[str, str]) -> Run:
    """Cases with clients of one form."""

    def make(timeout_s: float | None) -> Client:
        answer_s = ANSWER_S if timeout_s is None else timeout_s
        if form == "async":
            return AsyncClient(AsyncMemory(environment=variables, timeout_s=answer_s))
        return SyncClient(Memory(environment=variables, timeout_s=answer_s))

    return Run(variables, make)


@pytest.mark.parametrize("case", CALLS, ids=names(CALLS))
@pytest.mark.parametrize("form", FORMS)
async def test_calls(form: str, case: Case, homes: Homes) -> None:
    await run(form, homes[form]).play(case)


@pytest.mark.parametrize("case", CALLS, ids=names(CALLS))
@pytest.mark.parametrize("form", FORMS)
async def test_calls_without_a_daemon(
    form: str, case: Case, embedded: Mapping[str, Client]
) -> None:
    await Run({}, lambda _: embedded[form], keeps=True).play(case)


@pytest.mark.parametrize("case", REQUESTS, ids=names(REQUESTS))
async def test_requests(case: Case, homes: Homes) -> None:
    await run("sync", homes["sync"]).play(case)


@pytest.mark.parametrize("case", FAULTS, ids=names(FAULTS))
async def test_faults(case: Case, home: Path) -> None:
    await run("async", environment(home)).play(case)


@pytest.mark.parametrize("case", OF_THREADS, ids=names(OF_THREADS))
async def test_faults_amid_calls_of_threads(case: Case, home: Path) -> None:
    await run("sync", environment(home)).play(case)
