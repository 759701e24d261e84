from __future__ import annotations

import numpy as np

from bench.floor import measure
from bench.git_hunks import History, Query
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.index import text_for_encoding
from support.events import event


def test_what_is_asked_about_is_found_and_nothing_is_not() -> None:
    encoder = OnnxEncoder()
    snippets = ["def parse_header(line): ...", "retry_limit = 5", "socket.settimeout(3)"]
    events = [event(number, snippet=text) for number, text in enumerate(snippets, start=1)]
    texts = ["parse the header of a line", "the retry limit"]
    queries = [
        Query(text, encoder.encode([text])[0], range(at, at + 1)) for at, text in enumerate(texts)
    ]
    vectors = np.stack([encoder.encode([text_for_encoding(one)])[0] for one in events])
    found = measure(History("few", events, vectors, None, queries), 200, encoder)
    assert (found["hit_at_10"], found["lost"], found["events"]) == (100.0, 0.0, 3)
    assert found["false_answers"] <= 5
