"""What editors tell the daemon, and what it tells them: capture, recall, pauses and counts.

    POST /v1/hook/{editor}  a hook's JSON, as the editor wrote it   the JSON that the editor wants
    POST /v1/capture {"events": [{"event", "key", "also"?}], "folder"?, "imported"?}
                            {"recorded", "known", "too_old", "paused", "failed": […]}
    POST /v1/pause   {"paused", "projects"?, "session"?}    {"everything", "projects", "sessions", …}
    GET  /v1/stats?since=YYYY-MM-DD                         {"since", "editors", "total"}

A hook is always answered with 200 and an object: whatever is odd in it is counted, and no concern of
the person who waits. Everything that reads, searches or writes does so in threads; a hook is answered
when what it told is durable, and a prompt is recorded while its context is looked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_node.capturing import Capturing, Claimed, Taken
from localmem_node.config import Settings
from localmem_node.daemon.app import JSON, Service, json_response, read_body
from localmem_node.daemon.common import Common, common_of, forget_common
from localmem_node.daemon.endpoint import hung_path, is_held, read_endpoint
from localmem_node.daemon.hook_bodies import parse_captured, parse_projects
from localmem_node.daemon.state import read_state
from localmem_node.daemon.worker import Worker
from localmem_node.editors.captured import EDITORS, Captured, Editor, Told
from localmem_node.editors.reading import read_hook, reply_to
from localmem_node.engine import Engine
from localmem_node.errors import ConfigError, NodeError, QueryError
from localmem_node.hook.launcher import refresh_launcher
from localmem_node.locating import locate
from localmem_node.pausing import Pauses
from localmem_node.project import Project
from localmem_node.recall import Recalled
from localmem_node.results import check_flag
from localmem_node.service import RECORD_EVENTS_MAX, check_folder
from localmem_node.spool import Spooled, drain
from localmem_node.usage import Tally
from localmem_protocol.errors import EventError
from localmem_protocol.limits import LABEL_BYTES_MAX
from localmem_protocol.seams import Clock, Random

logger = logging.getLogger(__name__)

THREADS: Final = 4
"""Hooks that may be recorded at the same time, and so share their syncs."""

INLINE_BYTES_MAX: Final = 64 * 1024
"""Body up to which JSON is read in no time worth a thread."""

PROMPTS_MAX: Final = 256
"""Prompts that are remembered, so that one that two hooks tell of gets one answer."""


TIDY_S: Final = 30.0
"""Between two times that counts are written, and that what hooks left is looked for: they leave it to
a daemon as well that was too slow for them once."""

ALIVE_S: Final = 1.0
"""So long after the daemon has read a hook, those that found it busy may ask again: whoever gave up had
time to leave the mark."""

NOTHING: Final = b"{}"

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(slots=True)
class _Step:
    """A hook that was read, and what of it is still to be done."""

    told: Told
    project: Project | None = None
    claimed: list[Claimed] = field(default_factory=list)
    taken: Taken = field(default_factory=Taken)
    recalls: bool = False


class Hooks:
    """Implements `Service`. One session's hooks are recorded by one thread, one after the other."""

    name = "hooks"

    def __init__(self, settings: Settings, engine: Engine, common: Common, clock: Clock) -> None:
        self._settings, self._engine, self._clock = settings, engine, clock
        self._common = common
        self._capturing: Capturing = common.capturing
        self._workers = [Worker(f"localmem-hook-{number}") for number in range(THREADS)]
        self._recall = Worker("localmem-recall")
        self._imports = Worker("localmem-import")
        self._lock = Lock()
        self._prompts: dict[str, None] = {}
        self._stopping = asyncio.Event()
        self._tidying: asyncio.Task[None] | None = None
        self._alive: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Begin; what hooks left behind is recorded beside the first requests."""
        self._tidying = asyncio.create_task(self._tidy())
        await asyncio.to_thread(self._renew_commands)

    async def stop(self) -> None:
        """End, after what is under way, and leave nothing behind."""
        self._stopping.set()
        if self._tidying is not None:
            await self._tidying
        if self._alive is not None:
            self._alive.cancel()
        for worker in (*self._workers, self._recall, self._imports):
            await asyncio.to_thread(worker.close)
        await asyncio.to_thread(self._common.usage.save)
        forget_common(self._engine)

    def status(self) -> dict[str, Any]:
        """How it is since the daemon runs, for people and for JSON; `last` are times in ms."""
        run = self._common.usage.run
        return {
            "captured": sum(run.captured.values()),
            "known": run.known,
            "refused": run.refused,
            "unreadable": run.unreadable,
            "injected": run.blocks,
            "problem": self._problem(),
            "last": self._common.usage.last,
        }

    async def hook(self, request: Request) -> Response:
        """POST /v1/hook/{editor}."""
        now_ms = self._clock.now_ms()
        self._say_alive()
        name = request.path_params["editor"]
        if name not in EDITORS:
            return json_response({}, 404)
        editor = cast(Editor, name)
        body = await request.body()
        try:
            answer = await self._answered(request, editor, body, now_ms)
        except NodeError as error:
            # The editor can do nothing about it; the log and the doctor tell.
            logger.error("a hook of %s was lost: %s", editor, error)
            answer = NOTHING
        except Exception:
            logger.exception("a hook of %s was lost", editor)
            answer = NOTHING
        return Response(answer, media_type=JSON)

    async def capture(self, request: Request) -> Response:
        """POST /v1/capture."""
        fields = await read_body(request, ("events", "folder", "imported"))
        body = await self._imports.run(lambda: self._captured(fields))
        return Response(body, media_type=JSON)

    async def pause(self, request: Request) -> Response:
        """POST /v1/pause."""
        fields = await read_body(request, ("paused", "projects", "session"))
        return json_response(await asyncio.to_thread(self._paused, fields))

    async def stats(self, request: Request) -> Response:
        """GET /v1/stats."""
        since = request.query_params.get("since")
        if since is not None and not _DAY.fullmatch(since):
            raise QueryError("since", "must be a day, as 2025-12-31")
        return json_response(self._common.usage.report(since))

    async def _answered(self, request: Request, editor: Editor, body: bytes, now_ms: int) -> bytes:
        small = len(body) <= INLINE_BYTES_MAX
        payload = _decoded(body) if small else await asyncio.to_thread(_decoded, body)
        worker = self._worker_of(payload)
        step = await worker.run(lambda: self._begun(editor, payload, now_ms))
        if step is None or not step.recalls:
            return NOTHING
        recalling = self._recall.run(lambda: self._recalled(step, now_ms))
        recording = worker.run(lambda: self._record(step, now_ms))
        recalled, recorded = await asyncio.gather(recalling, recording, return_exceptions=True)
        if isinstance(recorded, BaseException):
            logger.error("a prompt was not recorded: %s", recorded)
        if isinstance(recalled, BaseException):
            raise recalled
        if not recalled.text:
            return NOTHING
        if await request.is_disconnected():
            await self._recall.run(lambda: self._common.recall.take_back(step.told, recalled))
            return NOTHING
        self._count_injected(step.told, recalled, now_ms)
        return msgspec.json.encode(reply_to(step.told, recalled.text))

    def _worker_of(self, payload: object) -> Worker:
        """The thread of a session, so that its events stay in their order."""
        session = payload.get("session_id") if isinstance(payload, dict) else None
        return self._workers[hash(session if isinstance(session, str) else "") % THREADS]

    def _begun(
        self, editor: Editor, payload: object, now_ms: int, *, live: bool = True
    ) -> _Step | None:
        """Read a hook, and claim its events. They are recorded as well, unless there is something to
        look for meanwhile. None for what is not understood."""
        usage = self._common.usage
        if not isinstance(payload, dict):
            usage.count(editor, now_ms, Tally(unreadable=1))
            return None
        told = read_hook(editor, payload, now_ms, locate)
        usage.heard(told.editor, now_ms)
        if not told.name or (told.captured and told.session is None):
            usage.count(told.editor, now_ms, Tally(unreadable=1))
            return None
        if told.step == "other":
            return None  # nothing in it is worth keeping
        step = _Step(told, self._capturing.project(told.folder))
        self._common.recall.note(told, now_ms)
        step.claimed = self._capturing.claim(told.captured, step.project, step.taken)
        try:
            step.recalls = live and self._is_to_recall(step, now_ms)
        finally:
            if not step.recalls:
                self._record(step, now_ms)
        return step

    def _is_to_recall(self, step: _Step, now_ms: int) -> bool:
        """Whether the model is to be told something: not of a pause, and once if the hook came twice."""
        told = step.told
        if told.step not in ("session start", "prompt") or not reply_to(told, "x"):
            return False
        if told.prompt and not self._is_first(told):
            return False
        ids = step.project.ids if step.project is not None else ()
        return not self._common.pauses.covers(ids, told.session, now_ms)

    def _is_first(self, told: Told) -> bool:
        """Whether nobody has asked for this prompt's context: two hooks may tell of one prompt."""
        keys = [one.key for one in told.captured[:1]]
        with self._lock:
            for key in keys:
                if key in self._prompts:
                    return False
                self._prompts[key] = None
            while len(self._prompts) > PROMPTS_MAX:
                del self._prompts[next(iter(self._prompts))]
        return True

    def _record(self, step: _Step, now_ms: int) -> None:
        told, taken = step.told, step.taken
        try:
            self._capturing.record(step.claimed, told.folder, step.project, taken)
        finally:
            self._count(told.editor, taken, now_ms)
        if told.step == "tool":
            self._common.usage.touched(told.session, taken.recorded, now_ms)

    def _recalled(self, step: _Step, now_ms: int) -> Recalled:
        return self._common.recall.recall(step.told, step.project, now_ms)

    def _count(self, editor: str, taken: Taken, now_ms: int) -> None:
        counts = Tally(known=taken.known, refused=len(taken.failed), paused=taken.paused)
        for event in taken.recorded:
            counts.captured[event.kind] = counts.captured.get(event.kind, 0) + 1
        if counts != Tally():
            self._common.usage.count(editor, now_ms, counts)

    def _count_injected(self, told: Told, recalled: Recalled, now_ms: int) -> None:
        self._common.usage.injected(
            told.editor,
            told.session,
            recalled.events,
            characters=len(recalled.text),
            tokens=recalled.tokens,
            now_ms=now_ms,
        )

    def _captured(self, fields: dict[str, Any]) -> bytes:
        events, folder = fields.get("events"), check_folder(fields.get("folder"))
        imported = check_flag("imported", fields.get("imported", False))
        if not isinstance(events, list) or not 1 <= len(events) <= RECORD_EVENTS_MAX:
            raise EventError("events", f"must be a list of 1 to {RECORD_EVENTS_MAX} events")
        captured: list[Captured] = []
        indexes: list[int] = []
        failed: list[tuple[int, EventError]] = []
        for index, one in enumerate(events):
            try:
                captured.append(parse_captured(one))
                indexes.append(index)
            except EventError as error:
                failed.append((index, error))
        taken = self._capturing.take(captured, folder, imported=imported)
        taken.failed = [*failed, *((indexes[at], error) for at, error in taken.failed)]
        return msgspec.json.encode(taken.json())

    def _paused(self, fields: dict[str, Any]) -> dict[str, Any]:
        paused = check_flag("paused", fields.get("paused", True))
        projects, session = parse_projects(fields.get("projects")), fields.get("session")
        if session is not None and (
            not isinstance(session, str) or not 0 < len(session.encode()) <= LABEL_BYTES_MAX
        ):
            raise QueryError("session", f"must be a text of 1 to {LABEL_BYTES_MAX} bytes")
        if session is not None and projects:
            raise QueryError("session", "is given beside projects; choose one")
        now_ms = self._clock.now_ms()
        if paused:
            self._common.pauses.pause(projects, session, now_ms)
        else:
            self._common.pauses.resume(projects, session, now_ms)
        return self._common.pauses.status()

    def _renew_commands(self) -> None:
        """Let the commands that editors run start this interpreter, if they were installed."""
        try:
            for path in refresh_launcher(self._settings, os.environ):
                logger.info("%s was renewed", path)
        except ConfigError as error:
            logger.error("the command of the hooks is an old one: %s", error)

    def _drain(self) -> None:
        """Record what hooks left while no daemon answered; after an error of the store, later."""
        try:
            for spooled in drain(self._settings):
                for one in spooled:
                    self._begin_spooled(one)
                if spooled:
                    logger.info("%d hooks that had waited were read", len(spooled))
        except Exception as error:
            known = isinstance(error, NodeError)
            logger.error("hooks that had waited were not all read: %s", error, exc_info=not known)

    def _begin_spooled(self, one: Spooled) -> None:
        try:
            self._begun(one.editor, _decoded(one.body), one.at_ms, live=False)
        except NodeError:
            raise
        except Exception:  # none may keep those behind it waiting for ever
            logger.exception("a hook of %s that had waited was lost", one.editor)

    async def _tidy(self) -> None:
        while not self._stopping.is_set():
            await asyncio.to_thread(self._drain)
            await asyncio.to_thread(self._common.usage.save)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TIDY_S)

    def _say_alive(self) -> None:
        """A daemon that was slow once, and does read what it was told, does not hang."""
        if self._alive is None:
            self._alive = asyncio.get_running_loop().call_later(ALIVE_S, self._unmark)

    def _unmark(self) -> None:
        self._alive = None
        with contextlib.suppress(OSError):
            hung_path(self._settings).unlink(missing_ok=True)

    def _problem(self) -> str | None:
        """Why the editors' HTTP hooks do not arrive, if they were told of a port that is not ours."""
        try:
            endpoint, state = read_endpoint(self._settings), read_state(self._settings)
        except ConfigError as error:
            return str(error)
        if endpoint is None or state is None or state.port == endpoint.port:
            return None
        if is_held(endpoint.port):
            return (
                f"port {endpoint.port}, which the editors' HTTP hooks go to, is held by another "
                "program; end it, then run: localmem down"
            )
        return (
            f"the editors' HTTP hooks go to port {endpoint.port}, and this daemon is at "
            f"{state.port}; run: localmem down"
        )


class Pausing:
    """Implements `Service`, for the status alone."""

    name = "pause"

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses

    async def start(self) -> None:
        """Nothing to begin."""

    async def stop(self) -> None:
        """Nothing to end."""

    def status(self) -> dict[str, Any]:
        """What is paused."""
        return self._pauses.status()


def extend(
    settings: Settings, engine: Engine, clock: Clock, random: Random
) -> tuple[Sequence[BaseRoute], Sequence[Service]]:
    """An `Extension`."""
    common = common_of(settings, engine, clock)
    hooks = Hooks(settings, engine, common, clock)
    routes = [
        Route("/v1/hook/{editor}", hooks.hook, methods=["POST"]),
        Route("/v1/capture", hooks.capture, methods=["POST"]),
        Route("/v1/pause", hooks.pause, methods=["POST"]),
        Route("/v1/stats", hooks.stats, methods=["GET"]),
    ]
    return routes, [hooks, Pausing(common.pauses)]


def _decoded(body: bytes) -> object:
    """The JSON of a body; None for what is none."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(body)
    return None
