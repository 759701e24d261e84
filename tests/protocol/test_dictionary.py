import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol import dictionary
from localmem_protocol.errors import BatchError


@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_a_piece_round_trips_with_and_without_history(plain: bytes, history: bytes) -> None:
    piece = dictionary.compress(plain, history=history)
    assert dictionary.decompress(piece, len(plain), history=history) == plain


def test_the_shipped_dictionary_pays_for_itself_on_code() -> None:
    plain = b"    def __init__(self, name: str) -> None:\n        self.name = name\n"
    assert len(dictionary.compress(plain)) < len(zstandard.compress(plain, 19))


def test_history_is_used() -> None:
    text = bytes(range(256)) * 4
    assert len(dictionary.compress(text, history=text)) < 40


def test_more_than_the_limit_is_refused_before_it_is_unpacked() -> None:
    bomb = dictionary.compress(bytes(10_000_000))
    assert len(bomb) < 2000
    with pytest.raises(BatchError, match="more than"):
        dictionary.decompress(bomb, 1_000_000)


@pytest.mark.parametrize("piece", [b"", b"\x01", b"\x01\x00\x00", b"\x01" + b"\xff" * 40])
def test_noise_is_refused(piece: bytes) -> None:
    with pytest.raises(BatchError):
        dictionary.decompress(piece, 1000)


def test_a_dictionary_of_a_later_release_is_named() -> None:
    with pytest.raises(BatchError, match="dictionary 200"):
        dictionary.decompress(bytes([200]) + dictionary.compress(b"x")[1:], 1000)
