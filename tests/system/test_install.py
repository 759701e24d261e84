"""What an installation brings, asked of an old and of a new pip in fresh environments."""

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

from support.missing import missing

ROOT = Path(__file__).resolve().parents[2]


def pip(environment: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def resolved(environment: Path, *requirements: str) -> set[str]:
    """The names that pip would install."""
    report = environment / "report.json"
    done = pip(
        environment, "install", "--quiet", "--dry-run", "--report", str(report), *requirements
    )
    if done.returncode != 0:
        missing(f"pip cannot resolve {requirements}: {done.stderr[-800:]}; needs a package index")
    found = json.loads(report.read_text())
    return {one["metadata"]["name"].lower().replace("_", "-") for one in found["install"]}


@pytest.fixture(scope="module")
def old_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    venv.create(folder, with_pip=True)
    if (done := pip(folder, "install", "--quiet", "pip==23.0.1")).returncode != 0:
        missing(f"pip 23 cannot be installed: {done.stderr[-300:]}; needs a package index")
    return folder


@pytest.mark.timeout(300)
def test_a_node_brings_neither_torch_nor_sqlalchemy(old_pip: Path) -> None:
    names = resolved(old_pip, ".")
    assert {"localmem", "localmem-node", "localmem-protocol", "localmem-minilm"} <= names
    assert not names & {"torch", "sqlalchemy", "alembic", "localmem-hub", "sentence-transformers"}


@pytest.mark.timeout(300)
def test_a_hub_alone_brings_neither_numpy_nor_onnxruntime(old_pip: Path) -> None:
    names = resolved(old_pip, "./protocol", "./hub")
    assert {"localmem-hub", "localmem-protocol", "sqlalchemy"} <= names
    assert not names & {"numpy", "onnxruntime", "tokenizers", "localmem-node", "torch"}


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_real_installation_answers(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    if (done := pip(tmp_path / "venv", "install", "--quiet", ".[hub]")).returncode != 0:
        missing(f"pip cannot install: {done.stderr[-800:]}; needs a package index")
    home = tmp_path / "home"
    program = tmp_path / "venv" / "bin" / "localmem"
    environment = {
        "PATH": os.environ["PATH"],
        "LOCALMEM_HOME": str(home),
        "LOCALMEM_PASSPHRASE": "open",
    }
    line = '{"timestamp":1,"filePath":"a.py","selectionRange":[1,2],"snippet":"retry limit = 3"}'
    run = {"env": environment, "text": True, "capture_output": True, "check": True}
    subprocess.run([program, "record"], input=line, **run)  # type: ignore[call-overload]
    asked = [program, "query", "how often do we retry", "--json"]
    answer = json.loads(subprocess.run(asked, **run).stdout)  # type: ignore[call-overload]
    assert answer["events"][0]["snippet"] == "retry limit = 3"
    subprocess.run([program, "down"], **run)  # type: ignore[call-overload]
