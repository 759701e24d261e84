"""Queries that a developer's store has no answer to."""

from __future__ import annotations

import numpy as np

from bench.off_topic import TEMPLATES, off_topic_queries


def test_a_seed_makes_the_same_queries_and_all_of_them_differ() -> None:
    queries = off_topic_queries(np.random.default_rng(1))
    assert len(set(queries)) == len(queries) == 200
    assert queries == off_topic_queries(np.random.default_rng(1))
    assert queries != off_topic_queries(np.random.default_rng(2))
    assert not [query for query in queries if "{" in query]


def test_every_domain_has_its_share() -> None:
    queries = off_topic_queries(np.random.default_rng(3))
    for number, (domain, lines) in enumerate(TEMPLATES.items()):
        beginnings = tuple(line.partition("{")[0] for line in lines)
        own = queries[number :: len(TEMPLATES)]
        assert len(own) == 20
        assert all(query.startswith(beginnings) for query in own), domain
