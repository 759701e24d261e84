"""Nothing phones home: no file of a third party in HOME, no connection but to ourselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.missing import missing

ENCODE = (
    "from localmem_node.retrieval.encoder import OnnxEncoder;"
    "assert OnnxEncoder().encode(['who is listening']).shape == (1, 384)"
)


def clean(home: Path) -> dict[str, str]:
    # Without CI and the like: under those onnxruntime holds its telemetry back by itself.
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LOCALMEM_PASSPHRASE": "open"}


def test_encoding_leaves_no_file_in_the_users_home(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", ENCODE], env=clean(tmp_path), check=True)
    assert list(tmp_path.rglob("*")) == []


def test_onnxruntime_would_leave_one_if_it_were_let(tmp_path: Path) -> None:
    """The test above means something."""
    plain = "import localmem_minilm as m, onnxruntime as o; o.InferenceSession(str(m.MODEL_PATH))"
    subprocess.run([sys.executable, "-c", plain], env=clean(tmp_path), check=True)
    assert list(tmp_path.rglob("deviceid"))


def test_recording_and_querying_connects_to_no_other_machine(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        missing("needs strace: apt-get install strace")
    script = (
        "from localmem_node import Memory\n"
        "with Memory.embedded() as memory:\n"
        "    memory.record_event({'timestamp': 1, 'snippet': 'hello', 'kind': 'note'})\n"
        "    assert len(memory.query_recent(1, 'hello')) == 1\n"
    )
    log = tmp_path / "calls"
    command = [strace, "-f", "-e", "trace=connect,sendto", "-o", str(log), sys.executable, "-c"]
    subprocess.run([*command, script], env=clean(tmp_path / "home"), check=True)
    assert "AF_INET" not in log.read_text()
