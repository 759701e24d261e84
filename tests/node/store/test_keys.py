"""Key stores: the keychain, a passphrase, a key file, and that none stands in for another."""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.backends.null import Keyring as NullKeyring
from keyring.errors import KeyringLocked

from localmem_node.errors import ConfigError, KeyUnavailable
from localmem_node.store.keys import (
    DEFAULT_COST,
    KeyFileStore,
    KeyringStore,
    PassphraseStore,
    choose_keystore,
)
from localmem_node.store.layout import Cost
from localmem_node.store.opening import open_event_store
from support.events import event
from support.seeded import SeededRandom

SALT = bytes(range(16))
LIGHT = Cost(memory_kib=64, iterations=1, lanes=1)


class MemoryKeyring(KeyringBackend):
    """A keychain that works, in memory."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


class LockedKeyring(MemoryKeyring):
    """A keychain that nobody unlocks."""

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("the collection is locked\nsecond line")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked("the collection is locked\nsecond line")


class ForgetfulKeyring(MemoryKeyring):
    """A keychain that keeps nothing."""

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = "00" * 32


class PlainKeyring(MemoryKeyring):
    """Like keyrings.alt.file.PlaintextKeyring."""

    priority = 0.5  # type: ignore[assignment]


PreferredPlainKeyring = type(
    "PlaintextKeyring", (MemoryKeyring,), {"__module__": "keyrings.alt.file", "priority": 9}
)


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


def test_the_keychain_keeps_a_key_per_store() -> None:
    backend = MemoryKeyring()
    keyring.set_keyring(backend)
    store = KeyringStore("service", SeededRandom(1))
    key = store.create(SALT)
    assert len(key) == 32
    assert store.get(SALT) == key
    other = store.create(bytes(16))
    assert other != key
    assert store.get(SALT) == key
    assert {service for service, _ in backend.entries} == {"service"}


def test_a_store_opens_again_with_the_key_in_the_keychain(tmp_path: Path) -> None:
    keyring.set_keyring(MemoryKeyring())
    keys = choose_keystore(passphrase=None, key_file=None)
    assert isinstance(keys, KeyringStore)
    for _ in range(2):
        with open_event_store(tmp_path / "ring", keys, SeededRandom(1), size=10240) as store:
            assert "keychain" in store.stats().key_location
    keyring.set_keyring(MemoryKeyring())
    with pytest.raises(KeyUnavailable, match="has no entry"):
        open_event_store(tmp_path / "ring", keys, SeededRandom(1))


@pytest.mark.parametrize(
    ("backend", "match"),
    [
        (NoKeyring, "no keychain that protects keys"),
        (NullKeyring, "no keychain that protects keys"),
        (PlainKeyring, "no keychain that protects keys"),
        (PreferredPlainKeyring, "keyrings.alt.file.PlaintextKeyring"),
        (LockedKeyring, "the collection is locked; unlock it, or set LOCALMEM_PASSPHRASE"),
        (ForgetfulKeyring, "did not keep the key"),
    ],
)
def test_a_keychain_that_does_not_protect_the_key_is_refused_with_advice(
    backend: Callable[[], KeyringBackend], match: str
) -> None:
    keyring.set_keyring(backend())
    with pytest.raises(KeyUnavailable, match=match) as raised:
        KeyringStore(random=SeededRandom(1)).create(SALT)
    assert "set LOCALMEM_PASSPHRASE or choose a key file" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_plain_keychain_within_a_chain_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = [MemoryKeyring(), PreferredPlainKeyring()]
    monkeypatch.setattr(ChainerBackend, "backends", property(lambda self: chain))
    keyring.set_keyring(ChainerBackend())  # type: ignore[no-untyped-call]
    with pytest.raises(KeyUnavailable, match="no keychain that protects keys"):
        KeyringStore(random=SeededRandom(1)).create(SALT)
    chain.pop()
    assert len(KeyringStore(random=SeededRandom(1)).create(SALT)) == 32


def test_an_entry_that_is_no_key_is_an_error() -> None:
    backend = MemoryKeyring()
    backend.set_password("localmem", SALT.hex(), "not a key")
    keyring.set_keyring(backend)
    with pytest.raises(KeyUnavailable, match="does not hold a key"):
        KeyringStore().get(SALT)


def test_nothing_is_made_when_there_is_no_key(tmp_path: Path) -> None:
    keyring.set_keyring(NoKeyring())  # type: ignore[no-untyped-call]
    with pytest.raises(KeyUnavailable):
        open_event_store(tmp_path / "ring", KeyringStore(), SeededRandom(1), size=10240)
    assert [path.name for path in tmp_path.iterdir()] == ["ring.lock"]


def test_a_passphrase_is_stretched_by_argon2id() -> None:
    # From another implementation (argon2-cffi): hash_secret_raw(b"correct horse", salt, 1, 64, 1,
    # 32, Type.ID).
    key = PassphraseStore("correct horse", LIGHT).get(SALT)
    assert key.hex() == ARGON2ID_REFERENCE
    assert PassphraseStore("correct horsf", LIGHT).get(SALT) != key
    assert PassphraseStore("correct horse", LIGHT).get(bytes(16)) != key
    assert PassphraseStore("correct horse", LIGHT).create(SALT) == key


ARGON2ID_REFERENCE = "25ce5233cc1e4d37e9bca31bfef41710e40446cd1cb575932791c5fd3780bd3c"


def test_the_default_cost_takes_real_memory_and_still_works() -> None:
    assert DEFAULT_COST.memory_kib >= 64 * 1024
    assert len(PassphraseStore("word").get(SALT)) == 32


def test_a_header_cannot_ask_for_an_absurd_cost() -> None:
    for cost in (Cost(2**31, 1, 1), Cost(64, 10**6, 1), Cost(64, 1, 0), Cost(), Cost(64, 1, 64)):
        with pytest.raises(KeyUnavailable, match="impossible Argon2id cost"):
            PassphraseStore("word").derive(SALT, cost)


def test_a_key_file_is_made_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    store = KeyFileStore(path, SeededRandom(1))
    key = store.create(SALT)
    text = path.read_text()
    assert bytes.fromhex(text.strip()) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyFileStore(path, SeededRandom(2)).create(SALT) == key
    assert store.get(bytes(16)) == key
    assert path.read_text() == text
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    store = KeyFileStore(path, SeededRandom(1))
    store.create(SALT)
    path.chmod(mode)
    with pytest.raises(KeyUnavailable, match="chmod 600"):
        store.get(SALT)


def test_a_key_file_that_is_missing_or_no_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(KeyUnavailable, match="No such file"):
        KeyFileStore(path).get(SALT)
    with pytest.raises(KeyUnavailable, match="cannot create"):
        KeyFileStore(tmp_path / "missing" / "key").create(SALT)
    with pytest.raises(KeyUnavailable, match="is not a file"):
        KeyFileStore(tmp_path).get(SALT)
    for content in ("", "zz" * 32, "00" * 31, "00" * 33):
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(KeyUnavailable, match="does not hold a key"):
            KeyFileStore(path).create(SALT)
        assert path.read_text() == content


def test_the_settings_choose_the_key_store(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert isinstance(choose_keystore(passphrase="x", key_file=None), PassphraseStore)
    assert isinstance(choose_keystore(passphrase=None, key_file=path), KeyFileStore)
    with pytest.raises(ConfigError, match="both set"):
        choose_keystore(passphrase="x", key_file=path)
    with pytest.raises(ConfigError, match="is empty"):
        choose_keystore(passphrase="", key_file=None)


def test_no_secret_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = PassphraseStore("open sesame", LIGHT)
    caplog.set_level(logging.DEBUG)
    with open_event_store(tmp_path / "ring", keys, SeededRandom(1), size=10240) as store:
        store.append([event(1, snippet="a very private line")])
        shown = f"{keys!r} {store!r} {store.stats()!r} {vars(store)!r}"
    assert "sesame" not in shown + caplog.text
    assert store.derive_key("x").hex() not in shown
    assert "private line" not in shown + caplog.text
