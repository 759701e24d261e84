"""What is said about nothing that is here, with the shipped encoder over a small store."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.index import (
    FLOOR_CHARACTERS_MAX,
    Hit,
    SearchIndex,
    text_for_encoding,
)
from localmem_protocol.events import Event
from support.events import MOMENT, event

_CODE = {
    "net/socket.py": [
        "def open_socket(host, port):\n    return connect(host, port, timeout=TIMEOUT)",
        "def close_socket(connection):\n    connection.shutdown()\n    connection.close()",
        "TIMEOUT = 30",
        "class ConnectionPool:\n    def acquire(self): ...",
    ],
    "net/retry.py": [
        "def retry(call, attempts=5):\n    for attempt in range(attempts):\n        try: return call()",
        "BACKOFF = [1, 2, 4, 8]",
        "def jitter(delay):\n    return delay * random.uniform(0.5, 1.5)",
    ],
    "store/database.py": [
        "def migrate(database):\n    database.execute('ALTER TABLE users ADD email TEXT')",
        "def insert_user(database, name): ...",
        "class Transaction:\n    def rollback(self): ...",
        "def vacuum(database):\n    database.execute('VACUUM')",
    ],
    "web/login.ts": [
        "function checkPassword(user, password) {\n  return bcrypt.compare(password, user.hash)\n}",
        "export const SESSION_COOKIE = 'sid'",
        "async function logout(request) { await sessions.delete(request.cookies.sid) }",
    ],
    "parse/header.rs": [
        "fn parse_header(line: &str) -> Option<Header> { line.split_once(':') }",
        "struct Header { name: String, value: String }",
        "impl Display for Header { }",
    ],
}
_SAID = [
    ("prompt", "Why does the upload fail after thirty seconds?"),
    ("answer", "The socket has a timeout of 30 seconds; raise it for large uploads."),
    ("note", "We decided to hash passwords with bcrypt, cost 12."),
    ("prompt", "Please add an email column to the users table."),
    ("answer", "I added a migration that adds the column email to the table users."),
    ("note", "The parser drops headers without a colon."),
    ("prompt", "Make the retries back off exponentially, with jitter."),
    ("error", "sqlite3.OperationalError: database is locked"),
    ("command", "pytest tests/test_retry.py -x"),
    ("command", "cargo build --release"),
]

_ABOUT_NOTHING = [
    "recipe for sourdough bread",
    "which flowers bloom in the alps in spring",
    "who won the football world cup",
]
_ANSWERED = [
    ("how long is the timeout of a socket", "TIMEOUT"),
    ("how do we hash passwords", "bcrypt"),
    ("database is locked", "locked"),
    ("parse_header", "fn parse_header"),
    ("exponential backoff of retries", "back off"),
]


def _events() -> list[Event]:
    code = [
        event(number, session="work", filePath=path, snippet=snippet)
        for number, (path, snippet) in enumerate(
            ((path, snippet) for path, snippets in _CODE.items() for snippet in snippets), 1
        )
    ]
    said = [
        event(number, session="work", kind=kind, snippet=text, filePath=None, selectionRange=None)
        for number, (kind, text) in enumerate(_SAID, len(code) + 1)
    ]
    return [*code, *said]


_EVENTS = _events()


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder()


@pytest.fixture
def index(encoder: OnnxEncoder) -> SearchIndex:
    made = SearchIndex(encoder.dimensions)
    vectors = encoder.encode([text_for_encoding(each) for each in _EVENTS])
    for slot, each in enumerate(_EVENTS):
        made.add(slot, each)
        made.put_vector(slot, vectors[slot])
    return made


def _found(
    index: SearchIndex,
    encoder: OnnxEncoder,
    query: str,
    among: npt.NDArray[np.bool_] | None = None,
    *,
    floor: bool = True,
) -> list[Hit]:
    return index.search(query, encoder.encode([query])[0], 5, among=among, floor=floor)


@pytest.mark.parametrize("query", _ABOUT_NOTHING)
def test_a_query_about_nothing_that_is_here_finds_nothing(
    index: SearchIndex, encoder: OnnxEncoder, query: str
) -> None:
    assert _found(index, encoder, query) == []
    assert _found(index, encoder, query, floor=False)  # it is the floor that keeps silent


@pytest.mark.parametrize(("query", "words"), _ANSWERED)
def test_a_query_that_is_answered_finds_the_same_as_without_a_floor(
    index: SearchIndex, encoder: OnnxEncoder, query: str, words: str
) -> None:
    hits = _found(index, encoder, query)
    assert hits == _found(index, encoder, query, floor=False)
    assert any(words in _EVENTS[hit.slot].snippet for hit in hits[:3])


def test_a_long_query_has_no_floor(index: SearchIndex, encoder: OnnxEncoder) -> None:
    long = "recipe for sourdough bread " * (FLOOR_CHARACTERS_MAX // 20)
    assert len(long) > FLOOR_CHARACTERS_MAX
    assert _found(index, encoder, long)


def test_words_decide_about_what_has_no_vector_yet(
    index: SearchIndex, encoder: OnnxEncoder
) -> None:
    query = _ABOUT_NOTHING[0]
    fresh = event(99, snippet="sourdough", kind="note", filePath=None, selectionRange=None)
    index.add(len(_EVENTS), fresh)
    assert len(_EVENTS) in [hit.slot for hit in _found(index, encoder, query)]
    index.add(len(_EVENTS) + 1, event(100, snippet="unlike", session=None))
    index.remove(len(_EVENTS))
    assert _found(index, encoder, query) == []


def test_without_a_vector_of_the_query_there_is_no_floor(index: SearchIndex) -> None:
    query = "the bread of the parser"
    assert index.search(query, None, 5, floor=True) == index.search(query, None, 5)
    assert index.search(query, None, 5, floor=True)


def test_a_floor_holds_for_what_a_filter_lets_through(
    index: SearchIndex, encoder: OnnxEncoder
) -> None:
    code = np.array([each.file_path is not None for each in _EVENTS])
    only_parser = np.array([each.file_path == "parse/header.rs" for each in _EVENTS])
    for query, _ in _ANSWERED:
        for among in (code, ~code, only_parser):
            assert all(among[hit.slot] for hit in _found(index, encoder, query, among))
    for query in _ABOUT_NOTHING:
        assert _found(index, encoder, query, code) == []
        assert _found(index, encoder, query, only_parser) == []
    assert _found(index, encoder, "parse_header", only_parser)
    assert _found(index, encoder, "parse_header", np.zeros(len(_EVENTS), np.bool_)) == []


def test_near_copies_do_not_push_each_other_out(index: SearchIndex, encoder: OnnxEncoder) -> None:
    first = len(_EVENTS)
    text = _EVENTS[0].snippet
    for number in range(9):
        # Each in a burst of its own, so that none pays for another.
        moment = MOMENT + 360_000 * (number + 1)
        again = event(200 + number, snippet=text, filePath="net/socket.py", timestamp=moment)
        index.add(first + number, again)
        index.put_vector(first + number, encoder.encode([text_for_encoding(again)])[0])
    other = event(300, snippet=text, filePath="net/other.py")
    index.add(first + 9, other)
    index.put_vector(first + 9, encoder.encode([text_for_encoding(other)])[0])
    hits = _found(index, encoder, "open_socket host port")
    (copied,) = [hit for hit in hits if _copy_of(hit, first)]
    # The newest stands for all, and one in another file is no copy.
    assert (copied.slot, copied.duplicates) == (first + 8, 9)
    assert first + 9 in [hit.slot for hit in hits]
    assert len(hits) == 5


def _copy_of(hit: Hit, first: int) -> bool:
    return hit.slot == 0 or first <= hit.slot < first + 9
