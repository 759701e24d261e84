"""The weights of all-MiniLM-L6-v2 as ONNX, int8, with their tokenizer. No code, no dependencies."""

from pathlib import Path
from typing import Final

__version__ = "0.1.0"

MODEL_PATH: Final = Path(__file__).with_name("model.onnx")
"""Input `ids`: int64 (tokens,) of one text. Output `vector`: float32 (384,), of length 1."""

TOKENIZER_PATH: Final = Path(__file__).with_name("tokenizer.json")
"""For `tokenizers.Tokenizer.from_file`; truncates at TOKENS_MAX."""

DIMENSIONS: Final = 384
"""Components of a vector."""

TOKENS_MAX: Final = 256
"""Tokens of a text that count, [CLS] and [SEP] included; what upstream's configuration states."""

FINGERPRINT: Final = "all-MiniLM-L6-v2/int8-u8-channel/60ef00e2bd30"
"""Model, quantisation (int8 weights by channel, u8 inputs) and the start of model.onnx's sha256."""
