"""Which encoder the settings give, and what happens when it cannot be used."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import localmem_minilm
from localmem_node import encoders
from localmem_node.config import EncoderSettings
from localmem_node.encoders import choose_encoder, encoder_or_words
from localmem_node.errors import EncoderUnavailable
from localmem_node.retrieval.encoder import OnnxEncoder
from support.daemon import answer, daemons_of, localmem


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose daemons do not outlive the test."""
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of one's own that happens to be the shipped one."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(localmem_minilm.MODEL_PATH, folder / "model.onnx")
    shutil.copy(localmem_minilm.TOKENIZER_PATH, folder / "tokenizer.json")
    return folder


def test_the_shipped_model_is_the_default() -> None:
    assert choose_encoder(EncoderSettings()).fingerprint == localmem_minilm.FINGERPRINT


def test_a_model_of_ones_own_is_a_folder_or_a_file_with_its_tokenizer_beside_it(
    folder: Path,
) -> None:
    by_folder = choose_encoder(EncoderSettings("onnx", str(folder)))
    by_file = choose_encoder(EncoderSettings("onnx", str(folder / "model.onnx")))
    assert by_folder.fingerprint == by_file.fingerprint
    assert by_folder.fingerprint.startswith("mine/")
    expected = OnnxEncoder().encode(["some text"])
    assert np.array_equal(by_folder.encode(["some text"]), expected)


@pytest.mark.parametrize("missing", ["model.onnx", "tokenizer.json"])
def test_a_file_that_is_missing_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(EncoderUnavailable, match=missing):
        choose_encoder(EncoderSettings("onnx", str(folder)))
    assert "not usable" in encoder_or_words(EncoderSettings("onnx", str(folder))).fingerprint


def test_vectors_that_no_store_keeps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "DIMENSIONS_MAX", 383)
    with pytest.raises(EncoderUnavailable, match="384 dimensions"):
        choose_encoder(EncoderSettings())


def test_a_daemon_whose_encoder_cannot_be_used_records_finds_by_words_and_says_so(
    home: Path,
) -> None:
    chosen: dict[str, Any] = {
        "LOCALMEM_ENCODER": "onnx",
        "LOCALMEM_ENCODER_MODEL": "/nonexistent/model.onnx",
    }
    assert localmem(home, "record", "--snippet", "retry limit", **chosen).returncode == 0
    found = answer(localmem(home, "query", "retry", "--json", **chosen))["events"]
    assert [event["snippet"] for event in found] == ["retry limit"]
    status = answer(localmem(home, "status", "--json", **chosen))["encoder"]
    assert status["waiting"] == 1
    assert "/nonexistent" in status["problem"]
    assert b"/nonexistent" in localmem(home, "status", **chosen).stdout
    checks = answer(localmem(home, "doctor", "--json", **chosen))["checks"]
    ill = {check["name"] for check in checks if not check["ok"]}
    assert ill == {"encoder", "daemon encoder"}
    localmem(home, "down")
    assert localmem(home, "query", "retry").returncode == 0
    localmem(home, "down")
