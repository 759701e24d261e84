"""The tokenizer of the shipped model against `tokenizers`, which reads the same file."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import localmem_minilm
from localmem_node.retrieval.wordpiece import WordPiece

_SETTINGS = localmem_minilm.TOKENIZER_PATH.read_bytes()
_OTHER = Tokenizer.from_buffer(_SETTINGS)
_OTHER.no_padding()
_OTHER.enable_truncation(localmem_minilm.TOKENS_MAX)
_OURS = WordPiece.read(_SETTINGS, localmem_minilm.TOKENS_MAX)

_CHARACTERS = (
    "aZ09 _-.\t\n\r\0\x0b\x0c\x1c\x7f\x85\xa0\u2003\u200b\u200d\ufffd\u0301\u0327'\"[]{}#@"
    "ßİıΣςσǅéñÅ漢字カナがのㇰ한글𠀀😀👩‍💻“”…—¿«»،؟।ﬁ①½²™©€ĀЖщ"
)
_PARTS = st.sampled_from(_CHARACTERS) | st.sampled_from(
    ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "[cls]", "hello", "unaffable", "ΑΣ", "Straße",
     "naïve", "x" * 100, "x" * 101, "embeddings"]
)  # fmt: skip


def _same(text: str) -> None:
    assert _OURS.encode(text) == _OTHER.encode(text).ids, text


@given(st.lists(_PARTS, max_size=30).map("".join))
def test_texts_become_what_the_other_makes_of_them(text: str) -> None:
    _same(text)


@given(st.text(st.characters(max_codepoint=0x600), max_size=40))
def test_letters_of_europe_do(text: str) -> None:
    _same(text)


@pytest.mark.parametrize(
    "name", ["argparse.py", "email/_header_value_parser.py", "html/entities.py"]
)
def test_sources_do_piece_by_piece_and_whole(name: str) -> None:
    text = Path(sysconfig.get_path("stdlib"), name).read_text(encoding="utf-8")
    for first in range(0, len(text), 320):
        _same(text[first : first + 320])
    _same(text)


@pytest.mark.parametrize("words", [253, 254, 255])
def test_a_long_text_is_cut_off(words: int) -> None:
    _same("word " * words)
    _same("word " * (words - 1) + "unaffable")


def test_another_file_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        WordPiece.read(b'{"model": 1}', 256)
    with pytest.raises(KeyError):
        WordPiece.read(b'{"model": {"vocab": {"[UNK]": 0}}}', 256)
