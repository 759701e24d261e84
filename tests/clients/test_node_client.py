"""The Node.js client: its package, its types, and its own tests against a real daemon.

`make .clients/node-client/.installed` brings the compiler; the package itself needs nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.daemon import SOURCES
from support.missing import missing

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients/node"
TOOLS = ROOT / ".clients/node-client/node_modules"
TESTS = ["memory", "conformance"]


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


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's folder as it is after `npm install && npm run build`."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("node or npm is not installed; run: make system")
    if not (TOOLS / "typescript").is_dir():
        missing("the compiler is not installed; run: make clients")
    folder = tmp_path_factory.mktemp("client") / "node"
    shutil.copytree(CLIENT, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (folder / "node_modules").symlink_to(TOOLS)
    run(folder, "npm", "run", "--silent", "build")
    return folder


@pytest.mark.parametrize("name", TESTS)
def test_its_own_tests(built: Path, name: str) -> None:
    command = [sys.executable, "-P", "-m", "localmem_node.cli.main"]
    run(
        built,
        "node",
        "--test",
        f"test/{name}.test.mjs",
        LOCALMEM_TEST_COMMAND=json.dumps(command),
        LOCALMEM_TEST_VECTORS=str(ROOT / "tests/vectors/daemon"),
        PYTHONPATH=os.pathsep.join(str(ROOT / source) for source in SOURCES),
    )


def test_every_file_of_tests_is_run(built: Path) -> None:
    assert {f"{name}.test.mjs" for name in TESTS} == {
        path.name for path in (built / "test").glob("*.test.mjs")
    }


def test_its_types_are_those_of_the_contract(built: Path, tmp_path: Path) -> None:
    made = tmp_path / "schema.ts"
    options = ["--alphabetize", "--immutable"]
    contract = str(ROOT / "clients/openapi.json")
    run(built, "openapi-typescript", contract, "--output", str(made), *options)
    assert made.read_text() == (CLIENT / "src/schema.ts").read_text(), "make contract"


@pytest.fixture(scope="session")
def package(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `npm pack` makes."""
    folder = tmp_path_factory.mktemp("package")
    ((packed),) = json.loads(run(built, "npm", "pack", "--json", f"--pack-destination={folder}"))
    return folder / packed["filename"]


def test_the_package_holds_what_is_run_and_nothing_else(package: Path) -> None:
    with tarfile.open(package) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
        file = archive.extractfile("package/package.json")
        assert file is not None
        described = json.load(file)
        texts = [archive.extractfile(member) for member in archive.getmembers()]
        content = b"".join(text.read() for text in texts if text is not None)
    modules = {path.stem for path in (CLIENT / "src").glob("*.ts")}
    expected = {
        f"dist/{kind}/{module}.{end}"
        for kind in ("esm", "cjs")
        for module in modules
        for end in ("js", "d.ts")
    }
    expected |= {"dist/esm/package.json", "dist/cjs/package.json"}
    assert names == expected | {"package.json", "README.md", "LICENSE"}
    assert "dependencies" not in described
    assert not {"install", "postinstall", "preinstall", "prepare"} & set(described["scripts"])
    assert str(ROOT).encode() not in content


PROJECTS: dict[str, Sequence[tuple[str, str]]] = {
    "module": [("main.mjs", 'import { Memory } from "localmem-client";')],
    "commonjs": [("main.cjs", 'const { Memory } = require("localmem-client");')],
}


def test_it_installs_into_an_empty_project_and_works_by_import_and_require(
    package: Path, tmp_path: Path
) -> None:
    (tmp_path / "package.json").write_text('{"private": true}')
    run(tmp_path, "npm", "install", "--offline", "--no-audit", "--no-fund", str(package))
    assert [path.name for path in (tmp_path / "node_modules").glob("[!.]*")] == ["localmem-client"]
    for files in PROJECTS.values():
        for name, line in files:
            rest = 'console.log(typeof new Memory({ environment: { HOME: "/" } }).watch);'
            (tmp_path / name).write_text(f"{line}\n{rest}\n")
            assert run(tmp_path, "node", name) == "function\n"


@pytest.mark.parametrize("kind", ["esm", "cjs"])
def test_its_types_serve_a_strict_project(
    built: Path, package: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "package.json").write_text(
        json.dumps({"private": True, "type": "module" if kind == "esm" else "commonjs"})
    )
    run(tmp_path, "npm", "install", "--offline", "--no-audit", "--no-fund", str(package))
    (tmp_path / "main.ts").write_text(
        """
import { Memory, QueryError, type Event } from "localmem-client";
export async function main(): Promise<Event | undefined> {
  const memory = new Memory({ timeoutMs: 1000 });
  const event = await memory.recordEvent({
    timestamp: Date.now(), snippet: "x", filePath: "a.ts", selectionRange: [1, 2],
  });
  const clock: string = event.clock;
  const [first] = await memory.queryRecent(5, clock, { kind: ["edit", "note"], explain: true });
  for await (const one of memory.watch({ after: event.id })) return one;
  // @ts-expect-error: a kind that there is not
  await memory.recent(1, { kind: "thought" });
  throw new QueryError(String(first?.score), "query");
}
"""
    )
    types = str(TOOLS / "@types")
    run(
        tmp_path, str(TOOLS / ".bin/tsc"), "--noEmit", "--strict", "--module", "nodenext",
        "--target", "es2022", "--typeRoots", types, "--types", "node", "main.ts",
    )  # fmt: skip
