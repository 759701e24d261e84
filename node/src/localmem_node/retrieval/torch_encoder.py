"""Texts to vectors by sentence-transformers, which `pip install "localmem-node[torch]"` brings.

Everything is loaded from a folder: the one that was named, or what the hub's cache has of a name.
torch is imported by the first call that needs the model, here and nowhere else.
"""

# The libraries are an extra, and the gate looks at the types before they are there.
# pyright: reportMissingImports=false
from __future__ import annotations

import hashlib
import logging
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from localmem_minilm import TOKENS_MAX
from localmem_node.errors import EncoderUnavailable
from localmem_node.retrieval.encoder import well_formed

INSTALL: Final = 'pip install "localmem-node[torch]"'
PRECISION: Final = "fp32"
"""What every model is widened to, so that all machines compute alike."""

NOT_NEEDED: Final = (
    "onnx/*", "openvino/*", "*.onnx", "*.h5", "*.ot", "*.msgpack", "*.tflite", "*.gguf", "*.ckpt"
)  # fmt: skip
"""What a hub's repository may hold for other libraries, up to several times the model itself."""

DIGEST_CHARACTERS: Final = 12
_READ_BYTES: Final = 1 << 20

logger = logging.getLogger(__name__)


class TorchEncoder:
    """Implements `seams.Encoder`; thread-safe.

    `model` is a folder's absolute path or a name on the hub. The fingerprint is the name with the
    commit that `revision` (or the default branch, as the cache knows it) stands for; of a folder a
    digest of its files. Texts are cut at the tokens that count for the shipped model, or fewer if the
    model takes fewer. On a processor they are run one by one, for the reasons of `OnnxEncoder`.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        download: bool = False,
    ) -> None:
        """`device` is auto, cpu or cuda. With `download` a name that the cache lacks is fetched."""
        self._model, self._revision = model, revision
        self._device, self._download = device, download
        self._lock = threading.Lock()  # a tokenizer must not be used by two threads at once
        self._folder: Path | None = None
        self._fingerprint = ""
        self._loaded: Any = None

    @property
    def fingerprint(self) -> str:
        """Names model, revision and precision. Raises EncoderUnavailable if it is not here."""
        with self._lock:
            if not self._fingerprint:
                folder = self._find()
                name = folder.name if self._is_folder else f"{self._model}@{folder.name}"
                digest = f"/{_digest(folder)}" if self._is_folder else ""
                self._fingerprint = f"{name}{digest}/{PRECISION}"
            return self._fingerprint

    @property
    def dimensions(self) -> int:
        """Components of a vector; loads the model. Raises EncoderUnavailable."""
        with self._lock:
            return int(self._ready().get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One unit row per text: (len(texts), dimensions).

        Raises EncoderUnavailable if the model does not load or fails.
        """
        dimensions = self.dimensions
        vectors = np.empty((len(texts), dimensions), np.float32)
        together = 1 if self._loaded.device.type == "cpu" else max(1, len(texts))
        for start in range(0, len(texts), together):
            some = [well_formed(text) for text in texts[start : start + together]]
            vectors[start : start + together] = self._run(some, dimensions)
        return vectors

    @property
    def _is_folder(self) -> bool:
        return self._model.startswith("/")

    def _run(self, texts: list[str], dimensions: int) -> npt.NDArray[np.float32]:
        with self._lock:  # per text, so that a query gets in between
            try:
                rows = self._loaded.encode(
                    texts,
                    batch_size=len(texts),
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
            except Exception as error:  # out of memory on a GPU, for one; torch's own classes
                raise EncoderUnavailable(f"{self._model} fails ({_line(error)})") from None
        found = np.asarray(rows, np.float32)
        if found.shape != (len(texts), dimensions):
            raise EncoderUnavailable(
                f"{self._model} says {dimensions} dimensions and gives {found.shape[-1]}"
            )
        return found

    def _ready(self) -> Any:
        """The model. The caller holds the lock."""
        if self._loaded is None:
            self._loaded = self._load(self._find())
        return self._loaded

    def _find(self) -> Path:
        if self._folder is None:
            path = Path(self._model)
            if self._is_folder and not path.is_dir():
                raise EncoderUnavailable(f"{path}: no such folder; correct encoder.model")
            self._folder = path if self._is_folder else self._snapshot()
        return self._folder

    def _snapshot(self) -> Path:
        """Where the hub's cache has the files of a named model; its name is the commit."""
        _silence_hub(offline=not self._download)
        try:
            from huggingface_hub import snapshot_download
        except ImportError:
            raise _not_installed() from None
        try:
            return Path(
                snapshot_download(self._model, revision=self._revision, local_files_only=True)
            )
        except Exception as error:  # LocalEntryNotFoundError, or a name that cannot be one
            if not self._download:
                wanted = self._model if not self._revision else f"{self._model}@{self._revision}"
                raise EncoderUnavailable(
                    f"{wanted} is not on this machine ({_line(error)[:80]}); set encoder.download = "
                    "true to fetch it, or name a folder that starts with / or ./"
                ) from None
        logger.info("downloading %s", self._model)
        try:
            return Path(
                snapshot_download(
                    self._model, revision=self._revision, ignore_patterns=list(NOT_NEEDED)
                )
            )
        except Exception as error:  # httpx's, the hub's, and OSError
            raise EncoderUnavailable(
                f"{self._model} cannot be downloaded ({_line(error)}); check encoder.model, "
                "encoder.revision and the network"
            ) from None

    def _load(self, folder: Path) -> Any:
        _silence_hub(offline=not self._download)
        try:
            with warnings.catch_warnings():  # of libraries about each other
                warnings.simplefilter("ignore")
                import torch
                from sentence_transformers import SentenceTransformer
                from transformers.utils.logging import disable_progress_bar
        except ImportError:
            raise _not_installed() from None
        disable_progress_bar()  # into a daemon's log
        gpu = torch.cuda.is_available()
        if self._device == "cuda" and not gpu:
            raise EncoderUnavailable(
                "encoder.device: torch finds no CUDA device; use auto or cpu, or check the driver "
                "and that torch was built for it"
            )
        device = "cuda" if gpu and self._device != "cpu" else "cpu"
        try:
            model = SentenceTransformer(str(folder), device=device, local_files_only=True)
            model = model.float().eval()
            dimensions = model.get_embedding_dimension()
        except Exception as error:  # whatever torch, transformers and safetensors raise
            raise EncoderUnavailable(
                f"{folder} does not load ({_line(error)}); correct encoder.model"
            ) from None
        if not dimensions:
            raise EncoderUnavailable(f"{folder}: a model that gives no vector of a known length")
        model.max_seq_length = min(TOKENS_MAX, model.max_seq_length or TOKENS_MAX)
        logger.info("loaded %s on %s, %d dimensions", self._model, device, dimensions)
        return model


def _silence_hub(*, offline: bool) -> None:
    """Keep the hub's library from reporting its use, and from the network where nobody asked.

    Read when it is imported. Whoever imported it earlier is held to local files by the calls.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _digest(folder: Path) -> str:
    """The start of the sha256 over the names and contents of a model's files."""
    total = hashlib.sha256()
    try:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            hidden = any(part.startswith(".") for part in name.parts)
            if hidden or path.suffix == ".md" or not path.is_file():
                continue
            one = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_READ_BYTES):
                    one.update(chunk)
            total.update(f"{name.as_posix()}\0{one.hexdigest()}\n".encode())
    except OSError as error:
        raise EncoderUnavailable(f"{error.filename}: {error.strerror}") from None
    return total.hexdigest()[:DIGEST_CHARACTERS]


def _not_installed() -> EncoderUnavailable:
    return EncoderUnavailable(f"encoder.kind: sentence-transformers is not installed; {INSTALL}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
