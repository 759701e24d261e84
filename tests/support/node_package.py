"""The Node.js client as a package: built and packed once, from the sources as they are."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from support.missing import missing

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients/node"
TOOLS = ROOT / ".clients/node-client/node_modules"


def run(folder: Path, *command: str, **more: str) -> str:
    """What a command printed; it must end well."""
    variables = {name: value for name, value in os.environ.items() if "LOCALMEM" not in name}
    path = f"{folder / 'node_modules/.bin'}{os.pathsep}{variables['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env=variables | {"PATH": path, "npm_config_update_notifier": "false"} | more,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-6000:]}{done.stderr[-2000:]}"
    return done.stdout


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Gone with the process."""
    return tempfile.TemporaryDirectory(prefix="localmem-node-client-")


@functools.cache
def built() -> Path:
    """The client's folder as it is after `npm install && npm run build`; or a skipped test."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("node or npm is not installed; run: make system")
    if not (TOOLS / "typescript").is_dir():
        missing("the compiler of the Node.js client is not installed; run: make clients")
    folder = Path(_folder().name) / "node"
    shutil.copytree(CLIENT, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (folder / "node_modules").symlink_to(TOOLS)
    run(folder, "npm", "run", "--silent", "build")
    return folder


@functools.cache
def packed() -> Path:
    """What `npm pack` makes."""
    folder = built().parent
    (made,) = json.loads(run(built(), "npm", "pack", "--json", f"--pack-destination={folder}"))
    return folder / str(made["filename"])


def installed(project: Path) -> None:
    """Make a folder an empty project that has the client."""
    (project / "package.json").write_text('{"private": true}')
    run(project, "npm", "install", "--offline", "--no-audit", "--no-fund", str(packed()))
