"""The stdio pump of MCP as a process, spoken to in lines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-P", "-m", "localmem_node.mcp_server.shim")


class Pump:
    """`say` writes a message, `hear` reads the next one."""

    def __init__(self, environment: Mapping[str, str], cwd: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=cwd,
        )
        self._numbers = 0

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def say(self, method: str, params: Mapping[str, Any] | None = None, **more: Any) -> int:
        """Ask for something; the id of the request."""
        self._numbers += 1
        fields = {"jsonrpc": "2.0", "id": self._numbers, "method": method, "params": params or {}}
        self.write(json.dumps({**fields, **more}, ensure_ascii=False).encode() + b"\n")
        return self._numbers

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        assert isinstance(answer, dict)
        return answer

    def ask(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request, which is the next message."""
        number = self.say(method, params)
        answer = self.hear()
        assert answer["id"] == number
        return answer

    def handshake(self, version: str = "2025-11-25", client: str = "test") -> dict[str, Any]:
        """The result of `initialize`."""
        result = self.ask(
            "initialize",
            {
                "protocolVersion": version,
                "capabilities": {},
                "clientInfo": {"name": client, "version": "1"},
            },
        )["result"]
        self.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        assert isinstance(result, dict)
        return result

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The result of a tool, or the error that came instead."""
        answer = self.ask("tools/call", {"name": tool, "arguments": arguments})
        result = answer.get("result") or answer["error"]
        assert isinstance(result, dict)
        return result

    def close(self) -> tuple[int, bytes, bytes]:
        """End its stdin; (exit code, what else it wrote, its stderr)."""
        rest, errors = self.process.communicate(timeout=60)
        return self.process.returncode, rest, errors


@contextmanager
def pump(environment: Mapping[str, str], cwd: Path, *arguments: str) -> Iterator[Pump]:
    """A pump that does not outlive the block."""
    one = Pump(environment, cwd, *arguments)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate()
