"""A hub of its own process, for the demo: `localmem-hub` as its users run it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from localmem_node.errors import DemoError

INSTALL: Final = "pip install localmem-hub  (from a checkout: pip install ./protocol ./hub)"
STOP_S: Final = 20


class Hub:
    """A running hub with its database in `home`."""

    def __init__(self, home: Path) -> None:
        """Raises DemoError when `localmem-hub` is not installed or does not start."""
        self.home = home
        self._program = find_hub()
        self._options = ["--database", f"sqlite:///{home / 'hub.sqlite'}", "--json"]
        self.log = (home / "hub.log").open("wb")
        self._process = subprocess.Popen(
            [self._program, "serve", "--port", "0", *self._options],
            stdout=subprocess.PIPE,
            stderr=self.log,
            stdin=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            said = (home / "hub.log").read_text("utf-8", "replace").strip().splitlines()
            raise DemoError(f"the hub did not start: {said[-1] if said else 'no reason given'}")
        answer = json.loads(line)
        if "error" in answer:
            self.stop()
            raise DemoError(f"the hub did not start: {answer['error']['message']}")
        self.port = int(answer["port"])

    def token(self, pool: str) -> str:
        """A new token for a device of a pool. Raises DemoError."""
        made = subprocess.run(
            [self._program, "token", "create", "--pool", pool, *self._options],
            capture_output=True,
            check=False,
        )
        if not made.stdout:
            raise DemoError(f"the hub made no token: {made.stderr.decode(errors='replace')}")
        fields: dict[str, Any] = json.loads(made.stdout)
        if "error" in fields:
            raise DemoError(f"the hub made no token: {fields['error']['message']}")
        return str(fields["token"])

    def stop(self) -> None:
        """Stop it gracefully, or else at once."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self.log.close()


def find_hub() -> str:
    """The program beside this Python, or on the PATH. Raises DemoError naming what installs it."""
    beside = shutil.which("localmem-hub", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("localmem-hub")
    if found is None:
        raise DemoError(f"localmem-hub is not installed; run: {INSTALL}")
    return found
