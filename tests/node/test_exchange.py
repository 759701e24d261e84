"""One HTTP exchange over a socket: whole answers, however they arrive, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from threading import Thread

import pytest

from localmem_node.exchange import BadAnswerError, exchange


def ask(pieces: Sequence[bytes], body: bytes = b"{}") -> tuple[tuple[int, bytes, bool], bytes]:
    """(what `exchange` returned, what the other side got) for an answer sent in pieces."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(60)
        received: list[bytes] = []

        def serve() -> None:
            received.append(theirs.recv(65536))
            for piece in pieces:
                theirs.sendall(piece)
            theirs.shutdown(socket.SHUT_WR)

        server = Thread(target=serve)
        server.start()
        try:
            return exchange(ours, "POST", "/v1/x", "secret", body), received[0]
        finally:
            server.join()


def test_a_request_is_one_message_with_host_token_and_length() -> None:
    answer, received = ask([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"])
    assert answer == (200, b"{}", False)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/x HTTP/1.1"
    assert {b"Host: localhost", b"Authorization: Bearer secret", b"Content-Length: 2"} <= set(lines)
    assert body == b"{}"


@pytest.mark.parametrize(
    "cut", [lambda data: [data], lambda data: [bytes([byte]) for byte in data]]
)
def test_an_answer_is_read_whole_however_it_is_cut(cut: Callable[[bytes], list[bytes]]) -> None:
    data = (
        b"HTTP/1.1 404 Not Found\r\nX: y\r\nContent-Length:  5 \r\nConnection: close\r\n\r\nhello"
    )
    assert ask(cut(data))[0] == (404, b"hello", True)


def test_a_large_answer_is_read_whole() -> None:
    body = bytes(range(256)) * 10_000
    data = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    assert ask([data])[0] == (200, body, False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}more",
        b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 20_000,
    ],
)
def test_anything_else_is_a_broken_connection(data: bytes) -> None:
    with pytest.raises(ConnectionError):
        ask([data])


def test_what_is_no_answer_is_told_from_none() -> None:
    with pytest.raises(BadAnswerError):
        ask([b"220 smtp.example\r\n\r\n"])
