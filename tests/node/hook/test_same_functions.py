"""Both clients decide alike, whatever they are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.hook_command import compiled_client
from support.hook_functions import Functions, PythonFunctions

PYTHON = PythonFunctions()

_PIECES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 503 X", b"HTTP/1.1 401 X", b"HTTP/1.1 404 X", b"HTTP/1.1 20",
    b"\r\n", b"\r\n\r\n", b"\n", b"Content-Length:", b"content-length: ", b"CONTENT-LENGTH:\t", b"0",
    b"2", b"00007", b"+3", b" 4 ", b"x", b"99999999999999999999", b"{}", b"\xa0", b"\x85", b"\0",
]  # fmt: skip
_EVENTS = [
    b'"hook_event_name"', b'"SessionStart"', b'"sessionStart"', b'"UserPromptSubmit"', b":", b" ",
    b'"beforeSubmitPrompt"', b'"PostToolUse"', b"\r\n", b"\t", b"\v\f", b"\xa0", b"\x1c", b"{", b",",
    b" " * 30,
]  # fmt: skip


@pytest.fixture(scope="module")
def compiled() -> Iterator[Functions]:
    with compiled_client() as client:
        yield client.functions


def parsed(functions: Functions, received: bytes, ended: bool) -> bytes | None:
    """A length that is no number fails in Python, where that ends the command like a refusal."""
    try:
        return functions.parse_answer(received, ended)
    except ValueError:
        return b""


@given(st.lists(st.sampled_from(_PIECES) | st.binary(max_size=3), max_size=14), st.booleans())
def test_answers(compiled: Functions, pieces: list[bytes], ended: bool) -> None:
    received = b"".join(pieces)
    assert parsed(compiled, received, ended) == parsed(PYTHON, received, ended)


@given(st.lists(st.sampled_from(_EVENTS) | st.binary(max_size=3), max_size=10))
def test_beginnings(compiled: Functions, pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    assert compiled.begins_turn(body) == PYTHON.begins_turn(body)
