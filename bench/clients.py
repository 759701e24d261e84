"""The real Claude Code and Codex, run in a home of their own against a model on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from localmem_node.errors import NodeError

Name = Literal["claude-code", "codex"]

BINARIES: Final[Mapping[Name, str]] = {"claude-code": "claude", "codex": "codex"}
FOLDER: Final = Path(__file__).parents[1] / ".clients" / "node_modules" / ".bin"
"""Where `make clients` puts them."""

RUN_S: Final = 100.0

CODEX_CONFIG: Final = """\
model = "gpt-5"
model_provider = "loopback"

[model_providers.loopback]
name = "loopback"
base_url = "{url}/v1"
env_key = "LOOPBACK_KEY"
wire_api = "responses"
"""

_QUIET: Final = {
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "ENABLE_TOOL_SEARCH": "false",
    "IS_SANDBOX": "1",  # bypassing permissions as root is refused elsewhere
}


class ClientMissing(NodeError):
    """A client is not installed; the message says how to get it."""


class ClientFailed(NodeError):
    """A client ended otherwise than well; the message has what it printed."""


def find(name: Name) -> Path:
    """The binary of a client. Raises ClientMissing."""
    for path in (FOLDER / BINARIES[name], shutil.which(BINARIES[name])):
        if path is not None and Path(path).exists():
            return Path(path)
    raise ClientMissing(f"{BINARIES[name]} is not installed; run: make clients")


@dataclass(frozen=True, slots=True)
class Client:
    """A client in `home`, working in `folder`, whose model is at `url`.

    `more` are variables for it and what it starts; nothing is inherited but PATH.
    """

    name: Name
    home: Path
    folder: Path
    url: str
    more: Mapping[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Write what it needs to find the model. Keeps what is there."""
        if self.name == "codex":
            config = self.home / ".codex" / "config.toml"
            config.parent.mkdir(parents=True, exist_ok=True)
            before = config.read_text() if config.exists() else ""
            config.write_text(CODEX_CONFIG.format(url=self.url) + before)

    @property
    def environment(self) -> dict[str, str]:
        """All of its environment."""
        path = os.pathsep.join(
            (str(find(self.name).parent), os.environ.get("PATH", "/usr/bin:/bin"))
        )
        own = {"PATH": path, "HOME": str(self.home), "LANG": "C.UTF-8"}
        if self.name == "claude-code":
            own |= _QUIET | {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": "sk-ant-loopback"}
        else:
            own |= {"LOOPBACK_KEY": "loopback"}
        return own | dict(self.more)

    def ask(self, prompt: str, *, resume: bool = False) -> str:
        """One prompt, and the turn to its end; what it answered. Raises ClientFailed."""
        if self.name == "claude-code":
            arguments = ["-p", *(["--continue"] if resume else []), prompt]
            arguments += ["--permission-mode", "bypassPermissions", "--output-format", "json"]
            done = self.run(arguments)
            return str(json.loads(done)["result"])
        arguments = ["exec", *(["resume", "--last"] if resume else [])]
        arguments += ["--skip-git-repo-check", "--dangerously-bypass-hook-trust", "--json"]
        if not resume:
            arguments += ["--sandbox", "danger-full-access"]
        done = self.run([*arguments, prompt])
        items = [json.loads(line).get("item", {}) for line in done.splitlines()]
        said = [item["text"] for item in items if item.get("type") == "agent_message"]
        return said[-1] if said else ""

    def run(self, arguments: Sequence[str]) -> str:
        """Run it with these; what it printed. Raises ClientFailed."""
        try:
            done = subprocess.run(
                [str(find(self.name)), *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=RUN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ClientFailed(f"{self.name} took more than {RUN_S:.0f} s") from None
        if done.returncode != 0:
            raise ClientFailed(
                f"{self.name} {' '.join(arguments)} ended with {done.returncode}: "
                f"{done.stdout.decode(errors='replace')[-2000:]}"
                f"{done.stderr.decode(errors='replace')[-2000:]}"
            )
        return done.stdout.decode()
