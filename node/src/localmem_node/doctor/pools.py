"""The checks of pools: which are damaged, which do not work, and what others did that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from localmem_node.config import Settings
from localmem_node.doctor.check import Check
from localmem_node.errors import NodeError
from localmem_node.sync.troubles import notices_of, problems_of, untold

ASK: Final = "ask whoever has that device; if nobody can explain it: localmem pool members, localmem pool remove"


def pool_checks(settings: Settings, status: Mapping[str, Any] | None) -> Iterator[Check]:
    """A check of each pool: as the daemon says; of its files alone if there is no daemon."""
    if status is None:
        yield from _files(settings)
        return
    told = status["services"]["pools"]
    for pool, problem in told["damaged"].items():
        yield _damaged(pool, problem, told["untold"].get(pool, 0))
    for one in told["pools"]:
        yield _running(one, told["untold"].get(one["id"], 0))


def _running(pool: Mapping[str, Any], waiting: int) -> Check:
    name = f"pool {pool['pool']}"
    notices = [*notices_of(pool), *filter(None, [untold(waiting)])]
    if pool["error"]:
        said = "; ".join([pool["error"], *notices])
        return Check(name, False, said, "see the message; then run: localmem sync")
    if pool["problem_count"]:
        return Check(name, False, "; ".join([*problems_of(pool), *notices]), ASK)
    if waiting or any(one["problem"] for one in pool["epochs_unread"]):
        return Check(
            name, False, "; ".join(notices), "it is tried again; the hub's log may have more"
        )
    state = "in sync" if pool["settled"] else pool["state"]
    return Check(name, True, "; ".join([state, *notices]))


def _damaged(pool: str, problem: str, waiting: int) -> Check:
    said = "; ".join(filter(None, [problem, untold(waiting)]))
    return Check(f"pool {pool[:8]}", False, said, "mend the file that is named, as it says")


def _files(settings: Settings) -> Iterator[Check]:
    from localmem_node.sync.pool_files import POOLS, PoolFiles
    from localmem_node.sync.standing import check_roster

    files = PoolFiles(settings.state_dir / POOLS)
    for pool in files.pools():
        try:
            name = files.record(pool).name
            check_roster(files, pool)
        except NodeError as error:
            yield _damaged(pool, str(error), 0)
        else:
            yield Check(f"pool {name}", True, "its files are sound; the daemon is not running")
