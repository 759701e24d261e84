"""Makes the zip that a function app is published from: `make azure` calls it.

    python deploy/azure-functions/package.py WHEELS ZIP

Beside the function itself it holds the wheels of protocol and hub, which no registry has, and names them
by their hashes after everything that the lock names. The same sources give the same bytes.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
FILES: Final = ("function_app.py", "host.json")
LOCK: Final = "requirements.txt"
OURS: Final = ("localmem_protocol", "localmem_hub")
FOLDER: Final = "wheels"
TIME: Final = (1980, 1, 1, 0, 0, 0)


def requirements(wheels: list[Path]) -> str:
    """The lock, and our own wheels, which pip finds in the folder where it is run."""
    lines = [(HERE / LOCK).read_text().rstrip("\n")]
    for wheel in wheels:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"./{FOLDER}/{wheel.name} \\\n    --hash=sha256:{digest}")
    return "\n".join(lines) + "\n"


def find_wheels(folder: Path) -> list[Path]:
    """One of each of ours, the protocol first. Raises SystemExit when one is missing, or there are two."""
    found = []
    for name in OURS:
        there = sorted(folder.glob(f"{name}-*.whl"))
        if len(there) != 1:
            raise SystemExit(f"{len(there)} wheels of {name} in {folder}; one is needed")
        found += there
    return found


def package(wheels: list[Path], target: Path) -> None:
    """Write the zip."""
    content = {name: (HERE / name).read_bytes() for name in FILES}
    content[LOCK] = requirements(wheels).encode()
    content |= {f"{FOLDER}/{wheel.name}": wheel.read_bytes() for wheel in wheels}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in sorted(content.items()):
            entry = zipfile.ZipInfo(name, TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(entry, data)


if __name__ == "__main__":
    package(find_wheels(Path(sys.argv[1])), Path(sys.argv[2]))
