"""What several extensions of one daemon share: files that only one object may write."""

from __future__ import annotations

from threading import Lock
from typing import Final

from localmem_node import delivered, seen, session_states
from localmem_node.capture.admission import project_ids
from localmem_node.capturing import Capturing
from localmem_node.config import Settings
from localmem_node.delivered import Delivered, delivered_path
from localmem_node.engine import Engine
from localmem_node.pausing import Pauses, pauses_path
from localmem_node.projects import Projects
from localmem_node.recall import Recall
from localmem_node.seen import Seen, seen_path
from localmem_node.session_states import SessionStates, states_path
from localmem_node.usage import Usage, usage_path
from localmem_protocol.seams import Clock


class Common:
    """The parts, over one engine."""

    def __init__(self, settings: Settings, engine: Engine, clock: Clock) -> None:
        store = settings.store_path
        self.delivered = Delivered(delivered_path(store), engine.derive_key(delivered.PURPOSE))
        self.pauses = Pauses(pauses_path(settings))
        self.usage = Usage(usage_path(settings))
        self.projects = Projects(clock)
        self.capturing = Capturing(
            engine,
            Seen(seen_path(store), engine.derive_key(seen.PURPOSE)),
            self.projects,
            self.pauses,
            answers=settings.answers,
            denied=project_ids(settings.deny_projects),
        )
        states = SessionStates(states_path(store), engine.derive_key(session_states.PURPOSE))
        self.recall = Recall(engine, self.delivered, states)


_LOCK: Final = Lock()
_OF: Final[dict[Engine, Common]] = {}


def common_of(settings: Settings, engine: Engine, clock: Clock) -> Common:
    """The parts of this daemon, made with the first call."""
    with _LOCK:
        common = _OF.get(engine)
        if common is None:
            common = _OF[engine] = Common(settings, engine, clock)
        return common


def forget_common(engine: Engine) -> None:
    """The daemon ends."""
    with _LOCK:
        _OF.pop(engine, None)
