import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.errors import BatchError
from localmem_protocol.texts import Form, compress_text, decompress_text

CODE = b"    def __init__(self, name: str) -> None:\n        self.name = name\n"


@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_a_text_round_trips_with_and_without_history(text: bytes, history: bytes) -> None:
    form, piece = compress_text(text, history)
    assert decompress_text(form, piece, len(text), history) == text


@pytest.mark.parametrize("size", [1, 300, 131_072, 131_073, 400_000])
def test_a_text_of_any_size_round_trips(size: int) -> None:
    text = (CODE * (size // len(CODE) + 1))[:size]
    form, piece = compress_text(text, b"")
    assert form == (Form.PLAIN if size == 1 else Form.BLOCK if size <= 131_072 else Form.FRAME)
    assert decompress_text(form, piece, size, b"") == text
    with pytest.raises(BatchError):
        decompress_text(form, piece, size - 1, b"")


def test_the_dictionary_pays_for_itself_on_code_and_the_history_on_what_was_said() -> None:
    _, piece = compress_text(CODE, b"")
    assert len(piece) < len(CODE) / 4
    said = bytes(range(256)) * 4
    _, piece = compress_text(said, said)
    assert len(piece) < 40


@given(st.integers(0, 4), st.binary(max_size=300), st.binary(max_size=50))
def test_noise_is_refused_or_within_its_limit(form: int, piece: bytes, history: bytes) -> None:
    try:
        text = decompress_text(form, piece, 1000, history)
    except BatchError:
        return
    assert len(text) <= 1000


def test_a_block_that_is_longer_than_a_block_is_refused() -> None:
    with pytest.raises(BatchError, match="too long"):
        decompress_text(Form.BLOCK, bytes(200_000), 10**6, b"")
