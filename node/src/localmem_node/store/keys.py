"""Where the wrapping key of a store is kept: the keychain, a passphrase, or a key file.

Each implements `seams.KeyStore`. None falls back to another: a key ends up only where it was meant
to be. Errors are KeyUnavailable, with what to do.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from localmem_node.errors import ConfigError, KeyUnavailable
from localmem_node.seams import KeyStore
from localmem_node.store.disk import reason, sync_directory, write_all
from localmem_node.store.layout import Cost
from localmem_node.store.vault import KEY_BYTES
from localmem_node.system import SystemRandom
from localmem_protocol.seams import Random

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

DEFAULT_COST: Final = Cost(memory_kib=64 * 1024, iterations=3, lanes=4)
"""The second recommended option of RFC 9106, section 4."""

COST_MAX: Final = Cost(memory_kib=1024 * 1024, iterations=64, lanes=64)
"""More than this no header may ask for: it is read before it can be authenticated."""

OTHER: Final = 0
KEYRING: Final = 1
PASSPHRASE: Final = 2
KEY_FILE: Final = 3
MODES: Final = {KEYRING: "the keychain", PASSPHRASE: "a passphrase", KEY_FILE: "a key file"}
"""The key modes of a header, in words."""

_INSTEAD: Final = "set LOCALMEM_PASSPHRASE or choose a key file"


class KeyringStore:
    """A random key in the keychain of the operating system, one entry per store."""

    def __init__(self, service: str = "localmem", random: Random | None = None) -> None:
        self._service = service
        self._random = random or SystemRandom()

    @property
    def location(self) -> str:
        """For people: where the key is."""
        return f"the keychain, service {self._service!r}"

    def get(self, salt: bytes) -> bytes:
        """The store's key. Raises KeyUnavailable: no keychain, locked, or no such entry."""
        backend = keychain()
        try:
            text = backend.get_password(self._service, salt.hex())
        except Exception as error:
            raise _unusable(error) from None
        if text is None:
            raise KeyUnavailable(
                f"{self.location} has no entry {salt.hex()}: this store's key is kept elsewhere or "
                f"was deleted; {_INSTEAD}, whichever the store was made with"
            )
        return _parse_key(text, f"{self.location}, entry {salt.hex()}")

    def create(self, salt: bytes) -> bytes:
        """A new key, kept under the store's salt. Raises KeyUnavailable."""
        key = self._random.token_bytes(KEY_BYTES)
        backend = keychain()
        try:
            backend.set_password(self._service, salt.hex(), key.hex())
        except Exception as error:
            raise _unusable(error) from None
        if self.get(salt) != key:
            raise KeyUnavailable(f"{self.location} did not keep the key; {_INSTEAD}")
        return key

    def discard(self, salt: bytes) -> None:
        """Remove the entry, if the keychain lets us; without it the key is gone."""
        with contextlib.suppress(Exception):
            keychain().delete_password(self._service, salt.hex())


class PassphraseStore:
    """A key stretched from a passphrase by Argon2id (RFC 9106); kept in somebody's head."""

    def __init__(self, passphrase: str, cost: Cost = DEFAULT_COST) -> None:
        """`cost` is for new stores; an existing one says in its header what it was made with."""
        if not passphrase:
            raise ConfigError("passphrase: is empty; set LOCALMEM_PASSPHRASE to some text")
        self._passphrase = passphrase.encode("utf-8", "surrogateescape")
        self.cost = cost

    def __repr__(self) -> str:
        return "PassphraseStore()"

    @property
    def location(self) -> str:
        """For people: where the key is."""
        return "derived from the passphrase"

    def get(self, salt: bytes) -> bytes:
        """The key at the default cost."""
        return self.derive(salt, self.cost)

    def create(self, salt: bytes) -> bytes:
        """The same as `get`: nothing is kept."""
        return self.get(salt)

    def discard(self, salt: bytes) -> None:
        """Nothing is kept."""

    def derive(self, salt: bytes, cost: Cost) -> bytes:
        """The key at a cost. Raises KeyUnavailable when it is out of bounds or cannot be paid."""
        within = (
            8 * cost.lanes <= cost.memory_kib <= COST_MAX.memory_kib
            and 1 <= cost.iterations <= COST_MAX.iterations
            and 1 <= cost.lanes <= COST_MAX.lanes
        )
        if not within:
            raise KeyUnavailable(f"its header asks for an impossible Argon2id cost: {cost}")
        try:
            stretch = Argon2id(
                salt=salt,
                length=KEY_BYTES,
                iterations=cost.iterations,
                lanes=cost.lanes,
                memory_cost=cost.memory_kib,
            )
            return stretch.derive(self._passphrase)
        except UnsupportedAlgorithm:
            raise KeyUnavailable(
                "this build of `cryptography` has no Argon2id; install its PyPI wheel, "
                "or choose a key file"
            ) from None
        except MemoryError:
            raise KeyUnavailable(
                f"stretching the passphrase takes {cost.memory_kib // 1024} MiB of memory, "
                "which is not there; free some"
            ) from None


class KeyFileStore:
    """A random key in a file of mode 0600 that the user asked for, as 64 hex digits.

    One file may serve several stores.
    """

    def __init__(self, path: Path, random: Random | None = None) -> None:
        self._path = path
        self._random = random or SystemRandom()

    @property
    def location(self) -> str:
        """For people: where the key is."""
        return f"the key file {self._path}"

    def get(self, salt: bytes) -> bytes:
        """The file's key. Raises KeyUnavailable: missing, open to others, or no key."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise KeyUnavailable(
                f"cannot read {self.location}: {reason(error)}; restore it from a backup, "
                "or name the right file"
            ) from None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise KeyUnavailable(f"{self.location} is not a file")
            if status.st_mode & 0o077 or status.st_uid not in (os.getuid(), 0):
                raise KeyUnavailable(
                    f"{self.location} is open to others; run: chmod 600 {self._path}"
                )
            text = os.read(fd, 4096)
        except OSError as error:
            raise KeyUnavailable(f"cannot read {self.location}: {reason(error)}") from None
        finally:
            os.close(fd)
        return _parse_key(text.decode("ascii", "replace").strip(), self.location)

    def create(self, salt: bytes) -> bytes:
        """The key of a new file, or of the one that is there; never overwrites."""
        if not self._path.exists():
            try:
                self._write(self._random.token_bytes(KEY_BYTES).hex().encode() + b"\n")
            except OSError as error:
                raise KeyUnavailable(
                    f"cannot create {self.location}: {reason(error)}; name a file in a folder "
                    "that you can write to"
                ) from None
        return self.get(salt)

    def discard(self, salt: bytes) -> None:
        """The file stays: it may serve other stores."""

    def _write(self, text: bytes) -> None:
        # Linked into place when whole, so that a crash leaves no half key; a link never replaces.
        temporary = self._path.with_name(f".{self._path.name}.{self._random.token_bytes(8).hex()}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, 0, text)
            os.fsync(fd)
            os.link(temporary, self._path)
        except FileExistsError:
            return
        finally:
            os.close(fd)
            temporary.unlink()
        sync_directory(self._path.parent)


def choose_keystore(
    *, passphrase: str | None, key_file: Path | None, service: str = "localmem"
) -> KeyStore:
    """The key store that the settings ask for: a passphrase, a key file, else the keychain.

    Raises ConfigError when both are given, or the passphrase is empty.
    """
    if passphrase is not None and key_file is not None:
        raise ConfigError("passphrase and key file are both set; unset one of them")
    if passphrase is not None:
        return PassphraseStore(passphrase)
    if key_file is not None:
        return KeyFileStore(key_file)
    return KeyringStore(service)


def mode_of(keystore: KeyStore) -> int:
    """The key mode that a header notes for a key store."""
    if isinstance(keystore, KeyringStore):
        return KEYRING
    if isinstance(keystore, PassphraseStore):
        return PASSPHRASE
    return KEY_FILE if isinstance(keystore, KeyFileStore) else OTHER


def keychain() -> KeyringBackend:
    """The keychain in use, unless it is none or keeps passwords in the clear."""
    import keyring  # 60 ms that a passphrase or key file need not pay
    from keyring.backends.chainer import ChainerBackend

    try:
        backend = keyring.get_keyring()
        links = list(backend.backends) if isinstance(backend, ChainerBackend) else [backend]
        unsafe = [link for link in links if not _is_safe(link)]
    except Exception as error:
        raise _unusable(error) from None
    if not links or unsafe:
        name = f"{type(unsafe[0]).__module__}.{type(unsafe[0]).__name__}" if unsafe else "none"
        raise KeyUnavailable(
            f"no keychain that protects keys is available here (found: {name}); {_INSTEAD}"
        )
    return backend


def _is_safe(backend: KeyringBackend) -> bool:
    # keyring itself recommends backends from priority 1; keyrings.alt keeps keys in plain files.
    return backend.priority >= 1 and type(backend).__module__.split(".")[:2] != ["keyrings", "alt"]


def _unusable(error: Exception) -> KeyUnavailable:
    if isinstance(error, KeyUnavailable):
        return error
    lines = str(error).strip().splitlines()
    why = lines[0] if lines else type(error).__name__
    return KeyUnavailable(f"the keychain cannot be used: {why}; unlock it, or {_INSTEAD}")


def _parse_key(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyUnavailable(f"{where} does not hold a key (64 hex digits)")
    return key
