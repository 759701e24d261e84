"""The hub's image, built and run without a container engine: buildah in a chroot, as root.

The base image is made of Debian packages once, and kept in a cache folder: `LOCALMEM_TEST_CACHE`, or one
in the folder for temporary files. A container runs on a read-only root as the user that the image names.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from support.missing import missing
from support.once import alone

ROOT: Final = Path(__file__).parents[2]
BASE: Final = "localhost/localmem-test-base"
IMAGE: Final = "localhost/localmem-hub"
OLD_S: Final = 24 * 3600
_SUITE: Final = "bookworm"  # the Debian with Python 3.11
_PACKAGES: Final = "python3,python3-venv,python3-pip,ca-certificates"

# What a container engine does with `read_only`, `tmpfs`, a volume, `extra_hosts` and `user`.
_RUN: Final = """
set -eu
root=$1 data=$2 hosts=$3 user=$4; shift 4
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$data" "$root/data"
mount --bind "$hosts" "$root/etc/hosts"
mount -o remount,ro,bind "$root/etc/hosts"
exec chroot --userspec="$user:$user" --groups= "$root" env -i "$@"
"""


def need_buildah() -> None:
    """Skip, or fail under CI, where no image can be built."""
    if os.geteuid() != 0:
        missing("images are built as root here")
    for program in ("buildah", "debootstrap", "unshare"):
        if shutil.which(program) is None:
            missing(f"needs {program}: apt-get install buildah debootstrap util-linux")


def cache() -> Path:
    """Where the base image is kept."""
    named = os.environ.get("LOCALMEM_TEST_CACHE")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / "localmem-test-images"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        missing(f"{folder} is somebody else's; name another by LOCALMEM_TEST_CACHE")
    return folder


def buildah(*arguments: str) -> str:
    """What a command of buildah prints, in a storage of the tests' own."""
    done = _buildah(_driver(), *arguments)
    assert done.returncode == 0, f"buildah {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


@functools.cache
def build() -> str:
    """Build the image from the working tree, once in a run of the tests; its id.

    By its name it would be whichever was built last, from any working tree.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    built = cache() / "built"
    with alone(cache()):
        if run and built.exists():
            by, found = built.read_text().split()
            if by == run:
                return found
        _make_base()
        _remove_old()
        made = _build()
        if run:
            built.write_text(f"{run} {made}")
        return made


def _remove_old() -> None:
    """What lost its name to a later image so long ago that no run of the tests still uses it."""
    for one in json.loads(buildah("images", "--json", "--filter", "dangling=true")):
        if time.time() - one["created"] > OLD_S:
            _buildah(_driver(), "rmi", one["id"])


def _build() -> str:
    folder = ROOT / "deploy/docker"
    build = ["--format", "docker", "--network", "host", "--build-arg", f"BASE={BASE}"]
    ignore = ["--ignorefile", str(folder / "Dockerfile.dockerignore")]
    name = ["--file", str(folder / "Dockerfile"), "--tag", IMAGE]
    return buildah("bud", *build, *ignore, *name, str(ROOT)).splitlines()[-1]


@dataclass(frozen=True)
class Image:
    """What the image says of itself, and its size in bytes, beside its base's."""

    config: Mapping[str, Any]
    size: int
    base_size: int

    @property
    def environment(self) -> dict[str, str]:
        """As `ENV` has it."""
        return dict(text.split("=", 1) for text in self.config["Env"])


@functools.cache
def inspect() -> Image:
    """The image that was built."""
    found = json.loads(buildah("inspect", "--type", "image", build()))
    return Image(found["Docker"]["config"], _size(build()), _size(BASE))


class Container:
    """One container of the image: its file system, and the folder that is its volume."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self.data = folder / "data"
        self.data.mkdir()
        self._hosts = folder / "hosts"
        self._hosts.write_text("127.0.0.1 localhost\n")
        user = next(
            line.split(":")
            for line in (root / "etc/passwd").read_text().splitlines()
            if line.startswith(f"{inspect().config['User']}:")
        )
        self.uid = int(user[2])
        os.chown(self.data, self.uid, self.uid)

    def names(self, hosts: Mapping[str, str]) -> None:
        """Under which addresses the container knows other hosts."""
        lines = [f"{address} {name}\n" for name, address in hosts.items()]
        self._hosts.write_text("127.0.0.1 localhost\n" + "".join(lines))

    def start(
        self, arguments: Sequence[str] | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Its entry point, with these arguments or the image's own."""
        image = inspect()
        variables = image.environment | environment
        command = [*image.config["Entrypoint"], *(arguments or image.config["Cmd"])]
        return self._run([f"{name}={value}" for name, value in variables.items()] + command)

    def execute(self, *command: str, **environment: str) -> str:
        """What another program in it prints."""
        variables = inspect().environment | environment
        process = self._run([f"{name}={value}" for name, value in variables.items()] + [*command])
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        return output

    def _run(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        # Each of these replaces the one before: the process that is started is the hub in the end.
        prepare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _RUN, "sh"]
        places = [str(self._root), str(self.data), str(self._hosts), str(inspect().config["User"])]
        return subprocess.Popen(
            [*prepare, *places, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextlib.contextmanager
def container(folder: Path) -> Iterator[Container]:
    """A new container; what still runs in it is the caller's to end."""
    name = buildah("from", "--pull-never", build())
    try:
        yield Container(Path(buildah("mount", name)), folder)
    finally:
        buildah("rm", name)


@contextlib.contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed in the end, if it still lives."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def _buildah(driver: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = cache() / driver
    places = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
    return subprocess.run(
        ["buildah", *places, "--storage-driver", driver, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"BUILDAH_ISOLATION": "chroot"},
    )


@functools.cache
def _driver() -> str:
    """Layers lie over each other where the kernel can do that here; else each is a whole copy."""
    probed = _buildah("overlay", "from", "scratch")
    if probed.returncode != 0:
        return "vfs"
    _buildah("overlay", "rm", probed.stdout.strip())
    return "overlay"


def _make_base() -> None:
    """The base image, unless it is there: Debian's Python, and who this machine trusts."""
    if BASE in buildah("images", "--format", "{{.Name}}").splitlines():
        return
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        root = Path(folder) / "root"
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr
        for unused in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
            shutil.rmtree(root / unused)
        if trusted := os.environ.get("SSL_CERT_FILE"):
            shutil.copy(trusted, root / "etc/ssl/certs/ca-certificates.crt")
        name = buildah("from", "scratch")
        try:
            mounted = buildah("mount", name)
            subprocess.run(["cp", "-a", f"{root}/.", mounted], check=True)
            certificates = "PIP_CERT=/etc/ssl/certs/ca-certificates.crt"  # pip has its own else
            buildah("config", "--env", certificates, name)
            buildah("commit", "--quiet", name, BASE)
        finally:
            buildah("rm", name)


def _size(image: str) -> int:
    """Bytes of an image's layers, unpacked."""
    listed = json.loads(buildah("images", "--json", image))
    return sum(_bytes(one["size"]) for one in listed[:1])


def _bytes(text: str) -> int:
    number, unit = text.split()
    return int(float(number) * 1000 ** ("B", "KB", "MB", "GB").index(unit))
