"""A device's way to a team's pool, with a hub that says what a test wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from localmem_node.config import HubSettings
from localmem_node.sync.pool_client import PoolClient
from localmem_node.sync.pool_files import PoolFiles, PoolRecord
from localmem_node.sync.roster_way import RosterWay
from localmem_node.sync.sharing import EVERYTHING
from localmem_node.sync.standing import Identity, Standing
from localmem_protocol.envelope import PoolKey
from localmem_protocol.roster import Author, admit, encode_entry
from localmem_protocol.simulation.memory import MemoryLog
from support.pool_members import NOW, ONE, TWO, Team
from support.telling_log import Journal


class Hub(PoolClient):
    """A client whose hub has these entries, or refuses."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.refusal: Exception | None = None
        self.heard: list[int] = []

    def refresh(self, standing: Standing) -> bool:
        if self.refusal is not None:
            raise self.refusal
        return standing.learn(self.team.entries[standing.length :])

    def token(self) -> str:
        return "lms_token"

    def forget_token(self) -> None:
        pass

    def finished(self, epoch: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.heard.append(epoch)


class Stopped:
    """A clock that a test moves."""

    seconds = 0.0

    def now_ms(self) -> int:
        return NOW

    def monotonic_s(self) -> float:
        return self.seconds


class World:
    """Device TWO's way to a team's pool; `journals` are by epoch."""

    def __init__(self, folder: Path) -> None:
        self.team = Team()
        self.do(admit, device=TWO, keys=self.team.keys[TWO].public, role="member")
        files = PoolFiles(folder)
        record = PoolRecord(self.team.pool, "https://hub.example.org", "ours", EVERYTHING)
        standing = Standing(files, self.team.pool, Identity(TWO, self.team.keys[TWO]))
        self.hub = Hub(self.team)
        self.journals: dict[int, Journal] = {}
        self.clock = Stopped()
        self.transports: dict[str, Any] = {}  # by room; any other is none

        def open_journal(key: PoolKey) -> Journal:
            return self.journals.setdefault(key.epoch, Journal())

        def open_transport(hub: HubSettings) -> Any:
            return self.transports.get(hub.pool, object())

        self.log = MemoryLog(TWO)
        self.log.position = 40
        self.log.begin(b"run one ")

        def again() -> RosterWay:
            """As after a restart."""
            return RosterWay(
                *(record, files, standing, self.hub, open_transport, open_journal, self.clock),
                self.log,
            )

        self.again: Callable[[], RosterWay] = again
        self.way = self.again()

    def do(self, make: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        team = self.team
        author = Author(ONE, team.keys[ONE])
        entry = make(team.roster, author, team.random, NOW, *arguments, **more)
        team.roster.apply(entry)
        team.entries.append(encode_entry(entry))
