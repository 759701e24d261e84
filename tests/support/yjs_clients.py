"""Real Yjs clients from npm, `y-websocket` on Node: `make clients` installs them."""

from __future__ import annotations

import asyncio
import json
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.missing import missing

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".clients/interop"
LINE_BYTES_MAX = 64 * 1024 * 1024


class YjsClients:
    """A Node process with as many clients ("tabs") as a test opens."""

    def __init__(self, process: Process, url: str) -> None:
        self._process = process
        self.url = url

    async def do(self, command: str, **arguments: object) -> dict[str, Any]:
        """Have a command of `tests/interop/driver.mjs` carried out."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        await stdin.drain()
        answer: dict[str, Any] = json.loads(await stdout.readline())
        assert answer["ok"], answer
        return answer

    async def open(self, tab: str, room: str, token: str, **more: object) -> int:
        """Open a room in a tab; its client id."""
        answer = await self.do(
            "open", tab=tab, url=f"{self.url}/v1/yjs", room=room, token=token, **more
        )
        return int(answer["client"])


@asynccontextmanager
async def yjs_clients(url: str, folder: Path) -> AsyncIterator[YjsClients]:
    """The process, which ends with the test; or a skipped test, and in the gate a failed one."""
    if not (INSTALLED / ".installed").exists() or shutil.which("node") is None:
        missing("the Yjs clients are not installed; run: make system clients")
    (folder / "node_modules").symlink_to(INSTALLED / "node_modules")
    driver = shutil.copy(ROOT / "tests/interop/driver.mjs", folder)
    process = await asyncio.create_subprocess_exec(
        "node", driver, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=LINE_BYTES_MAX
    )
    try:
        yield YjsClients(process, url)
    finally:
        if process.stdin is not None:
            process.stdin.close()  # it ends with its input, also when this process is killed
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
