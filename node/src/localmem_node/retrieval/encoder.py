"""Texts to vectors by an ONNX model: all-MiniLM-L6-v2 from localmem-minilm, or one of one's own.

Texts are run one by one. On one thread a padded batch is no faster, a vector then never depends on
the texts beside it, and a query that arrives during a long batch waits for one text at most of what
shares its processor.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

import localmem_minilm
from localmem_node.errors import EncoderUnavailable
from localmem_node.heap import trim_heap
from localmem_node.retrieval.runtime import quiet_onnxruntime
from localmem_node.retrieval.wordpiece import WordPiece

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, RunOptions  # type: ignore[import-untyped]

INPUT: Final = "ids"
OUTPUT: Final = "vector"
ADVICE: Final = "reinstall localmem-minilm, or correct encoder.model"
PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
UNIT_TOLERANCE: Final = 0.01

logger = logging.getLogger(__name__)


class OnnxEncoder:
    """Implements `seams.Encoder`; thread-safe. The model is loaded by the first `encode`.

    A model of one's own takes `ids`, int64 (tokens,), and gives `vector`, float32 (dimensions,), of
    length 1. Its fingerprint is a digest of both files, whatever runs it: `provider` is a key of
    PROVIDERS, and of what a GPU does not know onnxruntime does that part on the processor.
    """

    def __init__(
        self, model: Path | None = None, tokenizer: Path | None = None, *, provider: str = "cpu"
    ) -> None:
        self._shipped = model is None and tokenizer is None
        self._model_path = model or localmem_minilm.MODEL_PATH
        self._tokenizer_path = tokenizer or localmem_minilm.TOKENIZER_PATH
        self._fingerprint = localmem_minilm.FINGERPRINT if self._shipped else ""
        self._provider = PROVIDERS[provider]
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def fingerprint(self) -> str:
        """Names model and quantisation. Raises EncoderUnavailable if a file cannot be read."""
        if not self._fingerprint:
            digest = hashlib.sha256(_read(self._model_path) + _read(self._tokenizer_path))
            path = self._model_path
            name = path.parent.name if path.stem == "model" else path.stem
            self._fingerprint = f"{name}/{digest.hexdigest()[:12]}"
        return self._fingerprint

    @property
    def dimensions(self) -> int:
        """Components of a vector; known without loading for the shipped model."""
        return localmem_minilm.DIMENSIONS if self._shipped else self._load().dimensions

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One unit row per text: (len(texts), dimensions); only the first 256 tokens count.

        Raises EncoderUnavailable if the model or its tokenizer does not load.
        """
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        loaded = self._load()
        vectors = np.empty((len(texts), loaded.dimensions), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            ids = np.array(loaded.ids_of(well_formed(text)), np.int64)
            vector: Any = loaded.session.run([OUTPUT], {INPUT: ids}, loaded.options)[0]
            row[:] = vector
        if not self._shipped and not _are_unit(vectors):
            raise EncoderUnavailable(f"{self._model_path}: {OUTPUT} is not of length 1")
        return vectors

    def _load(self) -> _Loaded:
        if self._loaded is None:
            with self._loading:
                if self._loaded is None:
                    self._loaded = _load(self._model_path, self._tokenizer_path, self._provider)
        return self._loaded


class _Loaded(NamedTuple):
    session: InferenceSession
    options: RunOptions
    ids_of: Callable[[str], list[int]]
    dimensions: int


def _load(model: Path, tokenizer: Path, provider: str) -> _Loaded:
    # Imported here: it takes longer than a command that needs no vector.
    onnxruntime = quiet_onnxruntime()
    if provider not in onnxruntime.get_available_providers():
        raise EncoderUnavailable(
            f"encoder.provider: this onnxruntime has no {provider}; install onnxruntime-gpu in its "
            "place, or remove the setting"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A plan of the memory for every length of text that ever came takes 2 MiB and saves no time.
    options.enable_mem_pattern = False
    # The graph is written with fused operators; more passes only make loading slower.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    ids_of = _tokenizer(tokenizer)
    if not model.is_file():
        raise EncoderUnavailable(f"{model}: no such file; {ADVICE}")
    try:
        # By path: bytes would be kept beside the session's own copy.
        providers = list(dict.fromkeys((provider, PROVIDERS["cpu"])))
        session = onnxruntime.InferenceSession(str(model), options, providers)
    except Exception as error:  # onnxruntime's own classes share no narrower base
        raise _unusable(model, error) from None
    if session.get_providers()[0] != provider:  # it only warns, and runs on the processor
        raise EncoderUnavailable(
            f"encoder.provider: {provider} does not start; check the driver and the CUDA libraries"
        )
    trim_heap()  # loading leaves up to 14 MiB that nothing uses
    logger.debug("loaded %s", model)
    run = onnxruntime.RunOptions()
    # What a long text took is given back after it, which takes no time that could be measured.
    run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return _Loaded(session, run, ids_of, _dimensions(session, model))


def _tokenizer(path: Path) -> Callable[[str], list[int]]:
    """Texts to numbers of pieces, at most TOKENS_MAX. Raises EncoderUnavailable."""
    settings = _read(path)
    try:
        if path == localmem_minilm.TOKENIZER_PATH:
            return WordPiece.read(settings, localmem_minilm.TOKENS_MAX).encode
        from tokenizers import Tokenizer

        other = Tokenizer.from_buffer(settings)
    except Exception as error:  # tokenizers raises Exception itself
        raise _unusable(path, error) from None
    other.no_padding()
    other.enable_truncation(localmem_minilm.TOKENS_MAX)
    return lambda text: list(other.encode(text).ids)


def _dimensions(session: InferenceSession, model: Path) -> int:
    """The length of the model's vector. Raises EncoderUnavailable for another interface."""
    inputs = [(each.name, each.type, len(each.shape)) for each in session.get_inputs()]
    outputs = {each.name: each for each in session.get_outputs()}
    shape: Sequence[Any] = outputs[OUTPUT].shape if OUTPUT in outputs else ()
    if inputs != [(INPUT, "tensor(int64)", 1)] or len(shape) != 1 or not isinstance(shape[0], int):
        raise EncoderUnavailable(
            f"{model}: an encoder takes {INPUT} (tokens,) and gives {OUTPUT} (dimensions,)"
        )
    return shape[0]


def _are_unit(vectors: npt.NDArray[np.float32]) -> bool:
    lengths = np.linalg.norm(vectors, axis=1)
    return bool((np.abs(lengths - 1) <= UNIT_TOLERANCE).all())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EncoderUnavailable(f"{path}: {error.strerror}; {ADVICE}") from None


def _unusable(path: Path, error: Exception) -> EncoderUnavailable:
    reason = " ".join(str(error).split())[:200]
    return EncoderUnavailable(f"{path} does not load ({reason}); {ADVICE}")


def well_formed(text: str) -> str:
    """`text` with halves of surrogate pairs replaced: no UTF-8 can carry them."""
    return text.encode(errors="replace").decode()
