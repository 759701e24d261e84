"""The ONNX encoder keeps the promises of the Encoder seam."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest

import localmem_minilm
from localmem_node.errors import EncoderUnavailable
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.seams import Encoder
from support.sample_texts import functions, sentences


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder()


def test_it_stands_in_for_the_seam(encoder: OnnxEncoder) -> None:
    seam: Encoder = encoder
    assert seam.dimensions == 384
    assert seam.fingerprint == localmem_minilm.FINGERPRINT


def test_every_row_is_a_unit_vector_of_float32(encoder: OnnxEncoder) -> None:
    texts = functions(15) + sentences(15)
    vectors = encoder.encode(texts)
    assert vectors.shape == (30, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_texts_give_no_rows(encoder: OnnxEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_texts_of_like_meaning_are_closer_than_others(encoder: OnnxEncoder) -> None:
    question, answer, other = encoder.encode(
        [
            "how often is a failed request retried",
            "def send(self):\n    for attempt in range(RETRIES):\n        if self.post(): return",
            "The cat slept on the warm windowsill all afternoon.",
        ]
    )
    assert question @ answer > question @ other + 0.1


def test_a_text_has_the_same_vector_alone_in_a_batch_and_in_another_session() -> None:
    texts = [*functions(8), "", *sentences(8)]
    together = OnnxEncoder().encode(texts)
    other = OnnxEncoder()
    alone = np.concatenate([other.encode([text]) for text in reversed(texts)])[::-1]
    assert np.array_equal(together, alone)


def test_threads_that_share_an_encoder_get_what_one_thread_gets() -> None:
    texts = functions(24)
    shared = OnnxEncoder()
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda text: shared.encode([text])[0], texts))
    assert np.array_equal(np.stack(rows), OnnxEncoder().encode(texts))


def test_words_beyond_the_token_limit_do_not_count(encoder: OnnxEncoder) -> None:
    # One token a word; 254 of them fit between [CLS] and [SEP].
    full = "word " * 254
    exact, longer, shorter = encoder.encode([full, full + "elephant", full.removesuffix("word ")])
    assert np.array_equal(exact, longer)
    assert not np.array_equal(exact, shorter)


@pytest.mark.parametrize(
    "text",
    ["", " \n\t", "größe = naïve()", "再試行の上限", "🦀🚀", "a\x00b", "x" * 70_000, "\ud800 lone"],
    ids=["empty", "blank", "latin", "cjk", "emoji", "control", "endless word", "half surrogate"],
)
def test_any_text_gets_a_finite_unit_vector(encoder: OnnxEncoder, text: str) -> None:
    [vector] = encoder.encode([text])
    assert np.isfinite(vector).all()
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5


def test_scripts_of_the_world_are_told_apart(encoder: OnnxEncoder) -> None:
    vectors = encoder.encode(["größe", "再試行", "retry"])
    assert (vectors @ vectors.T)[np.triu_indices(3, 1)].max() < 0.95


def test_nothing_heavy_is_imported_before_the_first_text() -> None:
    program = (
        "import sys\n"
        "from localmem_node.retrieval.encoder import OnnxEncoder\n"
        "encoder = OnnxEncoder()\n"
        "assert encoder.dimensions and encoder.fingerprint and encoder.encode([]).shape\n"
        "from localmem_node.config import EncoderSettings\n"
        "from localmem_node.encoders import choose_encoder\n"
        "choose_encoder(EncoderSettings())\n"
        "torch = {'torch', 'sentence_transformers', 'transformers', 'huggingface_hub'}\n"
        "heavy = {'onnxruntime', 'tokenizers'} | torch\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "encoder.encode(['now'])\n"
        "assert 'onnxruntime' in sys.modules and not torch & set(sys.modules)\n"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_model_of_ones_own_gets_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(localmem_minilm.MODEL_PATH.read_bytes())
    mine = OnnxEncoder(model)
    assert mine.fingerprint.startswith("mine/")
    assert mine.fingerprint == OnnxEncoder(model).fingerprint
    assert mine.dimensions == 384
    assert np.array_equal(mine.encode(["same"]), OnnxEncoder().encode(["same"]))


def test_a_missing_model_is_named_and_a_later_attempt_works(tmp_path: Path) -> None:
    model = tmp_path / "absent.onnx"
    encoder = OnnxEncoder(model)
    with pytest.raises(EncoderUnavailable, match=r"absent\.onnx"):
        encoder.encode(["text"])
    with pytest.raises(EncoderUnavailable, match=r"absent\.onnx"):
        assert encoder.fingerprint
    model.write_bytes(localmem_minilm.MODEL_PATH.read_bytes())
    assert encoder.encode(["text"]).shape == (1, 384)


@pytest.mark.parametrize("size", [0, 1000, 1_000_000])
def test_a_torn_model_is_named_in_one_line(tmp_path: Path, size: int) -> None:
    model = tmp_path / "torn.onnx"
    model.write_bytes(localmem_minilm.MODEL_PATH.read_bytes()[:size])
    with pytest.raises(EncoderUnavailable, match=r"torn\.onnx") as caught:
        OnnxEncoder(model).encode(["text"])
    assert "\n" not in str(caught.value)


def test_a_torn_tokenizer_is_named_in_one_line(tmp_path: Path) -> None:
    tokenizer = tmp_path / "torn.json"
    tokenizer.write_bytes(localmem_minilm.TOKENIZER_PATH.read_bytes()[:1000])
    with pytest.raises(EncoderUnavailable, match=r"torn\.json") as caught:
        OnnxEncoder(tokenizer=tokenizer).encode(["text"])
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this onnxruntime has the provider",
)
def test_a_provider_that_onnxruntime_lacks_is_named_with_what_to_install() -> None:
    with pytest.raises(EncoderUnavailable, match="install onnxruntime-gpu"):
        OnnxEncoder(provider="cuda").encode(["text"])


def test_a_model_whose_vectors_are_not_of_length_1_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "long.onnx"
    data = localmem_minilm.MODEL_PATH.read_bytes()
    # The normalisation over another norm: same interface, other lengths.
    altered = data.replace(b"\n\x01p\x18\x02", b"\n\x01p\x18\x01")
    assert altered != data
    model.write_bytes(altered)
    with pytest.raises(EncoderUnavailable, match="not of length 1"):
        OnnxEncoder(model).encode(["some text of several words"])
