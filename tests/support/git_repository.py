"""A real git repository in a temporary folder, with commits at known times."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

BASE_SECONDS = 1_700_000_000


class Repository:
    """A git repository whose commits are a minute apart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commits = 0
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        moment = f"{BASE_SECONDS + 60 * self.commits} +0200"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_DATE": moment,
            "GIT_COMMITTER_DATE": moment,
        }
        identity = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.path,
            env=environment,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode(errors="replace")

    def write(self, name: str, content: str | bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, subject: str, files: dict[str, str | bytes] | None = None) -> None:
        for name, content in (files or {}).items():
            self.write(name, content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        self.commits += 1
