"""The encoder that the settings name, and what stands in its place when it cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.config import EncoderSettings
from localmem_node.errors import EncoderUnavailable
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.torch_encoder import TorchEncoder
from localmem_node.seams import Encoder
from localmem_node.store.records import DIMENSIONS_MAX

MODEL_FILE: Final = "model.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"

logger = logging.getLogger(__name__)


class NoEncoder:
    """Implements `seams.Encoder` for one that cannot be used: every text is refused with `reason`."""

    dimensions = 1

    def __init__(self, name: str, reason: str) -> None:
        self.fingerprint = f"{name} (not usable)"
        self._reason = reason

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Raises EncoderUnavailable."""
        raise EncoderUnavailable(self._reason)


def choose_encoder(settings: EncoderSettings) -> Encoder:
    """The encoder that the settings name, checked: its fingerprint and dimensions are known.

    The shipped one is loaded by its first text, any other now. Raises EncoderUnavailable.
    """
    encoder = _made(settings)
    if not 1 <= encoder.dimensions <= DIMENSIONS_MAX:
        raise EncoderUnavailable(
            f"encoder.model: {encoder.fingerprint} gives {encoder.dimensions} dimensions; a store "
            f"keeps up to {DIMENSIONS_MAX}"
        )
    return encoder


def encoder_or_words(settings: EncoderSettings) -> Encoder:
    """Like `choose_encoder`; one that cannot be used is logged, and leaves search to words.

    What is recorded must not depend on a model, a driver or a package that an update took away.
    """
    try:
        return choose_encoder(settings)
    except EncoderUnavailable as error:
        logger.error("search goes on by words alone: %s", error)
        return NoEncoder(settings.model or settings.kind, str(error))


def _made(settings: EncoderSettings) -> Encoder:
    if settings.model is None:
        return OnnxEncoder(provider=settings.provider)
    if settings.kind == "onnx":
        path = Path(settings.model)
        model = path / MODEL_FILE if path.is_dir() else path
        return OnnxEncoder(model, model.with_name(TOKENIZER_FILE), provider=settings.provider)
    return TorchEncoder(
        settings.model,
        revision=settings.revision,
        device=settings.device,
        download=settings.download,
    )
