"""The Node.js client: its package, its types, and its own tests against a real daemon.

`make clients` brings the compiler; the package itself needs nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from support.daemon import SOURCES
from support.node_package import CLIENT, ROOT, TOOLS, built, installed, packed, run

TESTS = ["memory", "conformance"]


@pytest.mark.parametrize("name", TESTS)
def test_its_own_tests(name: str) -> None:
    command = [sys.executable, "-P", "-m", "localmem_node.cli.main"]
    run(
        built(),
        "node",
        "--test",
        f"test/{name}.test.mjs",
        LOCALMEM_TEST_COMMAND=json.dumps(command),
        LOCALMEM_TEST_VECTORS=str(ROOT / "tests/vectors/daemon"),
        PYTHONPATH=os.pathsep.join(str(ROOT / source) for source in SOURCES),
    )


def test_every_file_of_tests_is_run() -> None:
    files = {path.name for path in (CLIENT / "test").glob("*.test.mjs")}
    assert files == {f"{name}.test.mjs" for name in TESTS}


def test_its_types_are_those_of_the_contract(tmp_path: Path) -> None:
    made = tmp_path / "schema.ts"
    options = ["--alphabetize", "--immutable"]
    contract = str(ROOT / "clients/openapi.json")
    run(built(), "openapi-typescript", contract, "--output", str(made), *options)
    assert made.read_text() == (CLIENT / "src/schema.ts").read_text(), "make contract"


def test_the_package_holds_what_is_run_and_nothing_else() -> None:
    with tarfile.open(packed()) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
        file = archive.extractfile("package/package.json")
        assert file is not None
        described = json.load(file)
        files = [archive.extractfile(member) for member in archive.getmembers()]
        content = b"".join(one.read() for one in files if one is not None)
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
    assert (CLIENT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_it_installs_into_an_empty_project_and_works_by_import_and_require(tmp_path: Path) -> None:
    installed(tmp_path)
    assert [path.name for path in (tmp_path / "node_modules").glob("[!.]*")] == ["localmem-client"]
    rest = '\nconsole.log(typeof new Memory({ environment: { HOME: "/" } }).watch);\n'
    for name, line in {
        "main.mjs": 'import { Memory } from "localmem-client";',
        "main.cjs": 'const { Memory } = require("localmem-client");',
    }.items():
        (tmp_path / name).write_text(line + rest)
        assert run(tmp_path, "node", name) == "function\n"


USER = """
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
  // @ts-expect-error: an event without a snippet
  await memory.recordEvent({ timestamp: 1 });
  throw new QueryError(String(first?.score), "query");
}
"""


def test_its_types_serve_strict_modules_of_both_kinds(tmp_path: Path) -> None:
    installed(tmp_path)
    for name in ("main.mts", "main.cts"):
        (tmp_path / name).write_text(USER)
    run(
        tmp_path, str(TOOLS / ".bin/tsc"), "--noEmit", "--strict", "--module", "nodenext",
        "--target", "es2022", "--typeRoots", str(TOOLS / "@types"), "--types", "node", "main.mts", "main.cts",
    )  # fmt: skip
