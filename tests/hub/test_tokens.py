"""Tokens: what is kept of them, and whom they let in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_hub.blobs.tokens import BlobTokens
from localmem_hub.errors import ConfigError, TokenError
from localmem_hub.limits import SEEN_MS
from localmem_hub.token_store import SqlTokens
from localmem_hub.tokens import is_pool_name, new_token, parse_token
from localmem_protocol.simulation import SeededRandom
from support.hub_databases import AnyStore, OpenAnyStore
from support.hub_store import open_store

ONE, TWO = "0000000000000001", "0000000000000002"
AnyTokens = SqlTokens | BlobTokens
NOW = 1_760_000_000_000


@pytest.fixture
def store(open_any_stores: OpenAnyStore) -> AnyStore:
    return open_any_stores()


@pytest.fixture
def tokens(store: AnyStore) -> AnyTokens:
    return store.tokens


def test_only_the_hash_of_the_secret_is_kept(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    tokens = store.tokens
    token = tokens.create("pool", None, "writer", SeededRandom(1), NOW)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert hashlib.sha256(token.secret).digest() in kept
    assert token.secret not in kept
    assert token.secret.hex().encode() not in kept
    assert token.secret.hex() not in repr(token)
    store.close()


def test_a_token_reads_back_as_it_was_written() -> None:
    token = new_token(SeededRandom(1))
    assert parse_token(token.text) == token
    assert len(token.secret) == 32


@given(st.text())
def test_what_is_no_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(TokenError, match="not a token") as refused:
        parse_token(text)
    assert len(text) < 4 or text not in str(refused.value)


def test_the_first_device_keeps_the_token(tokens: AnyTokens) -> None:
    text = tokens.create("pool", None, "writer", SeededRandom(1), NOW).text
    first = tokens.check(text, "pool", ONE, NOW)
    second = tokens.check(text, "pool", TWO, NOW)
    assert first.fresh
    assert second.fresh
    tokens.note(first, NOW)
    with pytest.raises(TokenError, match="another device"):
        tokens.note(second, NOW)
    with pytest.raises(TokenError, match="another device"):
        tokens.check(text, "pool", TWO, NOW)
    assert not tokens.check(text, "pool", ONE, NOW + SEEN_MS - 1).fresh
    assert tokens.check(text, "pool", ONE, NOW + SEEN_MS).fresh


def test_a_token_made_for_a_device_is_for_no_other(tokens: AnyTokens) -> None:
    text = tokens.create("pool", ONE, "reader", SeededRandom(1), NOW).text
    assert tokens.check(text, "pool", ONE, NOW).role == "reader"
    with pytest.raises(TokenError, match="another device"):
        tokens.check(text, "pool", TWO, NOW)


def test_a_token_opens_its_own_pool_alone(tokens: AnyTokens) -> None:
    text = tokens.create("pool", ONE, "writer", SeededRandom(1), NOW).text
    tokens.create("other", ONE, "writer", SeededRandom(2), NOW)
    with pytest.raises(TokenError, match="another pool"):
        tokens.check(text, "other", ONE, NOW)


def test_every_other_secret_is_refused(tokens: AnyTokens) -> None:
    token = tokens.create("pool", ONE, "writer", SeededRandom(1), NOW)
    for bit in range(256):
        secret = (int.from_bytes(token.secret, "big") ^ 1 << bit).to_bytes(32, "big")
        with pytest.raises(TokenError, match="not known"):
            tokens.check(f"lmt_{token.id}_{secret.hex()}", "pool", ONE, NOW)


def test_revoking_ends_a_token_for_good(tokens: AnyTokens) -> None:
    token = tokens.create("pool", ONE, "writer", SeededRandom(1), NOW)
    kept = tokens.create("pool", TWO, "writer", SeededRandom(2), NOW)
    entered = tokens.check(token.text, "pool", ONE, NOW)
    assert tokens.revoke(token.id, NOW + 1)
    assert tokens.revoke(token.id, NOW + 2)
    assert not tokens.revoke("0" * 16, NOW)
    with pytest.raises(TokenError, match="revoked"):
        tokens.check(token.text, "pool", ONE, NOW)
    with pytest.raises(TokenError, match="revoked"):
        tokens.note(entered, NOW)
    assert tokens.revoked([token.id, kept.id, "gone"]) == {token.id, "gone"}
    assert tokens.list()[0].revoked_ms == NOW + 1


def test_the_list_shows_who_uses_what(tokens: AnyTokens) -> None:
    token = tokens.create("pool", None, "writer", SeededRandom(1), NOW)
    tokens.create("other", TWO, "reader", SeededRandom(2), NOW + 1)
    tokens.note(tokens.check(token.text, "pool", ONE, NOW), NOW + 5)
    first, second = tokens.list()
    assert (first.id, first.device, first.last_seen_ms) == (token.id, ONE, NOW + 5)
    assert (second.pool, second.role, second.last_seen_ms) == ("other", "reader", None)
    assert tokens.list("other") == [second]


@pytest.mark.parametrize("pool", ["", ".hidden", "a/b", "a b", "ä", "x" * 65, "a\n"])
def test_a_pool_name_that_is_none_is_refused(tokens: AnyTokens, pool: str) -> None:
    assert not is_pool_name(pool)
    with pytest.raises(ConfigError, match="pool"):
        tokens.create(pool, None, "writer", SeededRandom(1), NOW)


@pytest.mark.parametrize("device", ["", "xyz", "0" * 15, "ABCDEF0123456789"])
def test_a_device_id_that_is_none_is_refused(tokens: AnyTokens, device: str) -> None:
    with pytest.raises(ConfigError, match="device"):
        tokens.create("pool", device, "writer", SeededRandom(1), NOW)
    assert tokens.list() == []
