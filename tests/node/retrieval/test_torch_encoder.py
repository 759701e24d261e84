"""sentence-transformers behind the Encoder seam: the official weights, tiny models, a small hub."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localmem_node.client import DaemonClient
from localmem_node.config import EncoderSettings
from localmem_node.encoders import choose_encoder, encoder_or_words
from localmem_node.errors import EncoderUnavailable
from localmem_node.retrieval import torch_encoder
from localmem_node.retrieval.torch_encoder import TorchEncoder
from localmem_node.seams import Encoder
from support.bert_reference import reference_vectors
from support.daemon import daemons_of, environment
from support.model_hub import COMMIT, model_hub
from support.official_model import TOKENIZER, WEIGHTS, official_model
from support.sample_texts import functions, sentences
from support.torch_models import need_torch, tiny_model

TEXTS = [*functions(10), *sentences(10)]
NAME = "someone/tiny"


@pytest.fixture(scope="module")
def official() -> TorchEncoder:
    need_torch()
    return TorchEncoder(str(official_model()), device="cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_torch()
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_it_gives_the_vectors_of_the_official_model(official: TorchEncoder) -> None:
    seam: Encoder = official
    folder = official_model()
    vectors = seam.encode(TEXTS)
    assert (vectors.shape, seam.dimensions) == ((20, 384), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    exact = reference_vectors(folder / WEIGHTS, folder / TOKENIZER, TEXTS)
    assert (vectors * exact).sum(axis=1).min() > 0.9999
    assert official.encode([]).shape == (0, 384)


def test_words_beyond_the_token_limit_do_not_count(tiny: Path) -> None:
    encoder = TorchEncoder(str(tiny), device="cpu")
    full = "a " * 254
    exact, longer, shorter = encoder.encode([full, full + "b", "a " * 252 + "b"])
    assert np.array_equal(exact, longer)
    assert not np.array_equal(exact, shorter)


def test_a_text_has_the_same_vector_alone_in_a_batch_and_from_several_threads(tiny: Path) -> None:
    texts = [*functions(12), "", "\ud800 lone", "再試行 🦀"]
    encoder = TorchEncoder(str(tiny), device="cpu")
    together = encoder.encode(texts)
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda text: encoder.encode([text])[0], texts))
    assert np.array_equal(together, np.stack(alone))
    assert np.array_equal(together, TorchEncoder(str(tiny), device="cpu").encode(texts))


def test_the_fingerprint_of_a_folder_follows_from_what_makes_its_vectors(
    tiny: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(tiny, copy)
    (copy / "README.md").write_text("other words")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "x").write_text("x")
    first = TorchEncoder(str(copy)).fingerprint
    assert first == TorchEncoder(str(tiny)).fingerprint
    name, digest, precision = first.split("/")
    assert (name, len(digest), precision) == ("tiny", 12, "fp32")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\7")
    assert TorchEncoder(str(copy)).fingerprint != first


def hub_says(program: str, home: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own: the hub's library reads its settings once."""
    start = (
        "from localmem_node.retrieval.torch_encoder import TorchEncoder\n"
        "from localmem_node.errors import EncoderUnavailable\n"
    )
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HOME": str(home),
        "HF_ENDPOINT": endpoint,
    }
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", start + program],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_named_model_is_downloaded_only_if_that_is_allowed_and_then_used_from_the_cache(
    tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    refused = (
        "try:\n"
        f"    TorchEncoder({NAME!r}).fingerprint\n"
        "except EncoderUnavailable as error:\n"
        "    print(error)\n"
    )
    fetch = (
        f"encoder = TorchEncoder({NAME!r}, download=True)\n"
        "print(encoder.fingerprint, encoder.encode(['text']).shape)\n"
    )
    use = f"print(TorchEncoder({NAME!r}, device='cpu').fingerprint)\n"
    with model_hub(NAME, tiny) as (endpoint, asked):
        done = hub_says(refused, tmp_path / "home", endpoint)
        assert "encoder.download = true" in done.stdout, done.stderr
        assert (asked, list((tmp_path / "home").iterdir())) == ([], [])
        done = hub_says(fetch, tmp_path / "home", endpoint)
        assert done.stdout == f"{NAME}@{COMMIT}/fp32 (1, 32)\n", done.stderr
        assert any(path.endswith("model.safetensors") for path in asked)
        asked.clear()
        again = hub_says(fetch, tmp_path / "home", endpoint)
        assert again.stdout == done.stdout
        assert hub_says(use, tmp_path / "home", endpoint).stdout == f"{NAME}@{COMMIT}/fp32\n"
        assert asked == []


def test_a_download_that_fails_is_one_line_that_says_what_to_check(tmp_path: Path) -> None:
    need_torch()
    program = (
        "try:\n"
        f"    TorchEncoder({NAME!r}, download=True).fingerprint\n"
        "except EncoderUnavailable as error:\n"
        "    print(error)\n"
    )
    done = hub_says(program, tmp_path, "http://127.0.0.1:9")
    [line] = done.stdout.splitlines()
    assert "cannot be downloaded" in line
    assert "encoder.revision" in line


def test_without_the_extra_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("sentence_transformers", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    for model in (str(tmp_path), NAME):
        settings = EncoderSettings("sentence-transformers", model)
        with pytest.raises(EncoderUnavailable, match=r"pip install \"localmem-node\[torch\]\""):
            choose_encoder(settings)
        stand_in = encoder_or_words(settings)
        assert stand_in.fingerprint == f"{model} (not usable)"
        with pytest.raises(EncoderUnavailable, match="pip install"):
            stand_in.encode(["text"])


def test_what_cannot_be_loaded_is_named_in_one_line(tmp_path: Path) -> None:
    need_torch()
    (tmp_path / "empty").mkdir()
    for folder in ("absent", "empty"):
        with pytest.raises(EncoderUnavailable, match=folder) as caught:
            choose_encoder(EncoderSettings("sentence-transformers", str(tmp_path / folder)))
        assert "\n" not in str(caught.value)


def test_a_gpu_is_used_if_there_is_one_and_missed_if_it_was_asked_for(tiny: Path) -> None:
    import torch

    expected = "cuda" if torch.cuda.is_available() else "cpu"
    automatic = TorchEncoder(str(tiny))
    assert automatic.encode(["text"]).shape == (1, 32)
    assert automatic._loaded.device.type == expected
    asked = TorchEncoder(str(tiny), device="cuda")
    if expected == "cuda":
        cosines = asked.encode(TEXTS) * TorchEncoder(str(tiny), device="cpu").encode(TEXTS)
        assert cosines.sum(axis=1).min() > 0.9999
    else:
        with pytest.raises(EncoderUnavailable, match=r"encoder\.device"):
            asked.encode(["text"])


def test_torch_is_imported_inside_functions_only() -> None:
    tree = ast.parse(Path(torch_encoder.__file__).read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name
        for node in top
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    }
    assert not {name.split(".")[0] for name in names} & {
        "torch",
        "sentence_transformers",
        "transformers",
        "huggingface_hub",
    }


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose daemons do not outlive the test."""
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


def test_a_daemon_changes_to_it_and_back_with_what_was_recorded(tiny: Path, home: Path) -> None:
    chosen: dict[str, Any] = {
        "LOCALMEM_ENCODER": "sentence-transformers",
        "LOCALMEM_ENCODER_MODEL": str(tiny),
    }
    models: list[str] = []
    for variables in ({}, chosen, {}):
        with DaemonClient(environment(home, **variables)) as client:
            client.ensure_running()
            for number in range(10):
                client.record([{"timestamp": 1, "kind": "note", "snippet": f"retry {number}"}])
            while (encoder := client.status()["encoder"])["waiting"]:
                assert client.query("retry 7", 1)["events"][0]["snippet"] == "retry 7"
            models.append(encoder["model"])
            assert encoder["problem"] is None
            assert encoder["encoded"] == 10 * len(models)
            assert client.query("retry 7", 1)["events"][0]["snippet"] == "retry 7"
            client.stop()
    assert models[0] == models[2]
    assert models[1].startswith("tiny/")
    log = (home / "state" / "daemon.log").read_text()
    assert f"loaded {tiny} on" in log
    assert f"events are encoded with {models[1]}" in log
