from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import localmem_minilm
from bench import encoders


def test_an_encoder_of_ones_own_is_measured_over_a_store_that_another_filled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(localmem_minilm.MODEL_PATH, folder / "model.onnx")
    shutil.copy(localmem_minilm.TOKENIZER_PATH, folder / "tokenizer.json")
    arguments = ["--events", "30", "--kind", "onnx", "--model", str(folder)]
    encoders.main([*arguments, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["encoder"].startswith("mine/")
    assert result["problem"] is None
    assert 0 < result["start_s"] <= result["answered_s"]
    assert result["texts_per_s"] > 0
    assert result["query_p50_ms"] > 0
    encoders.main(["--events", "10"])
    assert localmem_minilm.FINGERPRINT in capsys.readouterr().out
