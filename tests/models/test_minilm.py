"""The shipped model is the official one, smaller."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import venv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import localmem_minilm
from localmem_node.config import EncoderSettings
from localmem_node.encoders import choose_encoder
from localmem_node.retrieval.encoder import OnnxEncoder
from support.bert_reference import Array, erf, reference_vectors
from support.official_model import TOKENIZER, WEIGHTS, official_model
from support.sample_texts import functions, sentences

Official = Callable[[list[str]], Array]
Pairs = dict[str, tuple[Array, Array]]

PROJECT = Path(__file__).resolve().parents[2] / "models/minilm"
TEXTS = {"code": functions(110), "prose": sentences(110)}


@pytest.fixture(scope="module")
def official() -> Official:
    """Texts to the vectors of the official model."""
    folder = official_model()
    return partial(reference_vectors, folder / WEIGHTS, folder / TOKENIZER)


@pytest.fixture(scope="module")
def pairs(official: Official) -> Pairs:
    """Kind to (official vectors, shipped vectors)."""
    shipped = OnnxEncoder()
    return {kind: (official(texts), shipped.encode(texts)) for kind, texts in TEXTS.items()}


def test_the_reference_reproduces_the_published_similarities(official: Official) -> None:
    person, dog, happier, day = official(
        [
            "That is a happy person",
            "That is a happy dog",
            "That is a very happy person",
            "Today is a sunny day",
        ]
    )
    assert [round(float(person @ other), 3) for other in (happier, dog, day)] == [
        0.943,
        0.695,
        0.257,
    ]


def test_the_reference_has_an_accurate_error_function() -> None:
    points = np.linspace(-6, 6, 4001)
    exact = np.array([math.erf(point) for point in points])
    assert np.abs(erf(points.astype(np.float32)) - exact).max() < 5e-7


@pytest.mark.parametrize("kind", ["code", "prose"])
def test_the_shipped_model_agrees_with_the_official_one(pairs: Pairs, kind: str) -> None:
    exact, shipped = pairs[kind]
    cosines = (exact * shipped).sum(axis=1)
    assert len(cosines) == 110
    assert cosines.mean() >= 0.994
    assert cosines.min() >= 0.98, TEXTS[kind][int(cosines.argmin())]


def test_the_shipped_model_finds_the_same_neighbours(pairs: Pairs) -> None:
    nearest = []
    for vectors in zip(*pairs.values(), strict=True):
        stacked = np.concatenate(vectors)
        similar = stacked @ stacked.T
        np.fill_diagonal(similar, -1)
        nearest.append(np.argsort(-similar, axis=1)[:, :10])
    shared = [len(set(left) & set(right)) for left, right in zip(*nearest, strict=True)]
    assert np.mean(shared) >= 8.5


def test_a_text_at_the_token_limit_agrees_too(official: Official) -> None:
    long = "\n\n".join(functions(20))
    [exact], [shipped] = official([long]), OnnxEncoder().encode([long])
    assert exact @ shipped >= 0.98


def test_the_fingerprint_names_the_shipped_file() -> None:
    digest = hashlib.sha256(localmem_minilm.MODEL_PATH.read_bytes()).hexdigest()
    name, quantisation, start = localmem_minilm.FINGERPRINT.split("/")
    assert (name, quantisation) == ("all-MiniLM-L6-v2", "int8-u8-channel")
    assert len(start) == 12
    assert digest.startswith(start)


def test_the_package_holds_a_small_model_its_tokenizer_and_both_licences() -> None:
    folder = localmem_minilm.MODEL_PATH.parent
    assert localmem_minilm.MODEL_PATH.stat().st_size < 24_000_000
    settings = json.loads(localmem_minilm.TOKENIZER_PATH.read_text(encoding="utf-8"))
    assert settings["truncation"]["max_length"] == localmem_minilm.TOKENS_MAX
    assert settings["padding"] is None
    notice = (folder / "NOTICE").read_text(encoding="utf-8")
    assert "Apache" in notice
    assert "MIT" in notice
    assert (folder / "LICENSE").read_bytes() == (PROJECT.parents[1] / "LICENSE").read_bytes()


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_fresh_build_gives_the_shipped_files_byte_for_byte_and_refuses_other_weights(
    tmp_path: Path,
) -> None:
    """In an environment of its own: the build needs onnx, which nothing else does."""
    weights = official_model() / WEIGHTS
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    requirements = PROJECT / "build-requirements.txt"
    install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
    subprocess.run(install, check=True)
    script = str(PROJECT / "build_model.py")
    build = [str(python), script, "--weights", str(weights), "--check"]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "the shipped files match\n"), done.stderr

    exact = tmp_path / "fp32"
    subprocess.run([*build[:-1], "--fp32", str(exact)], check=True)
    encoder = choose_encoder(EncoderSettings("onnx", str(exact)))
    assert encoder.dimensions == localmem_minilm.DIMENSIONS
    assert encoder.fingerprint.startswith("fp32/")
    folder = official_model()
    for texts in TEXTS.values():
        reference = reference_vectors(folder / WEIGHTS, folder / TOKENIZER, texts)
        assert (encoder.encode(texts) * reference).sum(axis=1).min() > 0.9999

    altered = tmp_path / WEIGHTS
    altered.write_bytes(weights.read_bytes()[:-1] + b"\0")
    refused = subprocess.run(
        [*build[:3], str(altered), "--check"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "is not the official file" in refused.stderr
