"""What of a device's own events enters a pool: by project, and nothing unless somebody said so.

A rule is kept with the pool (`pool_files.PoolRecord`). What has no project (an event outside of any
repository) goes only where everything goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec

from localmem_node.errors import QueryError
from localmem_node.project import is_project_id
from localmem_protocol.events import Event

PROJECTS_MAX: Final = 1024
"""Projects that a rule can name."""

NAME_MAX: Final = 80
"""Characters of a project's name in a rule: for people, never compared."""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """`everything` but the projects in `out`; or else only those in `projects`.

    Both map a project's ids to the name that people know it by.
    """

    everything: bool = False
    projects: dict[str, str] = msgspec.field(default_factory=dict)
    out: dict[str, str] = msgspec.field(default_factory=dict)

    def covers(self, project: str | None) -> bool:
        """Whether events of a project enter the pool."""
        if self.everything:
            return project is None or project not in self.out
        return project is not None and project in self.projects

    def sharing(self, ids: Collection[str], name: str) -> Rule:
        """The rule under which a project, by all its ids, enters as well."""
        _check(ids)
        out = {one: known for one, known in self.out.items() if one not in ids}
        projects = self.projects
        if not self.everything:
            projects = projects | dict.fromkeys(ids, name[:NAME_MAX])
        return _bounded(msgspec.structs.replace(self, projects=projects, out=out))

    def keeping_out(self, ids: Collection[str], name: str) -> Rule:
        """The rule under which a project stays out from now on."""
        _check(ids)
        projects = {one: known for one, known in self.projects.items() if one not in ids}
        out = self.out
        if self.everything:
            out = out | dict.fromkeys(ids, name[:NAME_MAX])
        return _bounded(msgspec.structs.replace(self, projects=projects, out=out))

    def widens(self, before: Rule) -> bool:
        """Whether something enters that did not, so that older events have to be looked at again."""
        if self.everything:
            return not before.everything or not before.out.keys() <= self.out.keys()
        return not all(map(before.covers, self.projects))


NOTHING: Final = Rule()
EVERYTHING: Final = Rule(everything=True)


class Share(msgspec.Struct, frozen=True):
    """What of one project would enter, or enters: events, bytes of their text, the newest's time."""

    project: str | None
    events: int
    bytes: int
    newest_ms: int


def preview(events: Iterable[Event], rule: Rule) -> list[Share]:
    """What a rule shares of these events, the project with most of them first."""
    counts: Counter[str | None] = Counter()
    sizes: Counter[str | None] = Counter()
    newest: dict[str | None, int] = {}
    for event in events:
        if rule.covers(event.project):
            counts[event.project] += 1
            sizes[event.project] += len(event.snippet.encode())
            newest[event.project] = max(newest.get(event.project, 0), event.timestamp)
    return [Share(one, count, sizes[one], newest[one]) for one, count in counts.most_common()]


def rule_json(rule: Rule) -> dict[str, Any]:
    """As a JSON object, empty parts included."""
    return {"everything": rule.everything, "projects": rule.projects, "out": rule.out}


def _check(ids: Collection[str]) -> None:
    if not ids or not all(map(is_project_id, ids)):
        raise QueryError("projects", "must be ids of a project")


def _bounded(rule: Rule) -> Rule:
    if len(rule.projects) + len(rule.out) > PROJECTS_MAX:
        raise QueryError("projects", f"a pool's rule names at most {PROJECTS_MAX} projects")
    return rule
