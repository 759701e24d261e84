"""A user with a home of their own, for install and uninstall."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from localmem_node.config import Settings, load_settings
from localmem_node.editors.captured import EDITORS, Editor
from localmem_node.installing import wiring
from localmem_node.installing.hooks import Transport
from localmem_node.installing.places import Places, Scope
from support.seeded import SeededRandom


@dataclass(frozen=True)
class User:
    """Folders of a user, and what they do."""

    home: Path
    project: Path
    memory: Path

    @classmethod
    def at(cls, folder: Path) -> User:
        """A user whose folders are below this one."""
        user = cls(folder / "home", folder / "project", folder / "memory")
        for one in (user.home, user.project):
            one.mkdir(parents=True, exist_ok=True)
        return user

    @property
    def environment(self) -> dict[str, str]:
        """What localmem goes by."""
        return {"LOCALMEM_HOME": str(self.memory)}

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return load_settings(self.environment)

    @property
    def places(self) -> Places:
        """The editors' folders."""
        return Places.of({}, self.home, self.project)

    def install(
        self, *editors: Editor, scope: Scope = "user", transport: Transport | None = None
    ) -> wiring.Outcome:
        """`localmem install`, of all editors unless some are named."""
        way = wiring.transport_for(transport, scope, self.places)
        return wiring.install(
            self.settings,
            self.environment,
            SeededRandom(os.getpid()),  # who tests elsewhere draws another port
            editors or EDITORS,
            scope,
            self.places,
            way,
        )

    def uninstall(self, *editors: Editor, scope: Scope = "user") -> wiring.Outcome:
        """`localmem uninstall`, of all editors unless some are named."""
        return wiring.uninstall(self.settings, editors or EDITORS, scope, self.places, plugin=True)


def tree(*folders: Path) -> dict[str, tuple[int, bytes | None]]:
    """Every path below these folders with its permissions, and what is in the files."""
    return {
        str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        for folder in folders
        for path in sorted(folder.rglob("*"))
    }
