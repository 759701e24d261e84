"""Models for sentence-transformers that cost nothing: untrained, of a few thousand numbers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from support.missing import missing


def need_torch() -> None:
    """Skips the test, or under CI fails it, where the extra is not installed."""
    if importlib.util.find_spec("torch") and importlib.util.find_spec("sentence_transformers"):
        return
    missing("needs the extra `torch`: pip install --group torch")


def tiny_model(folder: Path, *, dimensions: int = 32, seed: int = 0) -> Path:
    """A BERT of one layer with mean pooling, saved as sentence-transformers saves any model."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    parts = folder.with_name(f"{folder.name}-parts")
    parts.mkdir(parents=True)
    (parts / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(seed)
    settings: Any = BertConfig(
        vocab_size=len(words),
        hidden_size=dimensions,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * dimensions,
        max_position_embeddings=512,
    )
    BertModel(settings).save_pretrained(parts)
    BertTokenizer(str(parts / "vocab.txt")).save_pretrained(parts)
    transformer = Transformer(str(parts))
    pooling = Pooling(dimensions, "mean")
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(folder))
    return folder
