"""One container of Azure Blob Storage: what the hub does with blobs, as few and plain calls.

Every call is one request (a list, one a page), is tried again while the storage asks for patience, and
raises StoreError. What a condition refuses is no error but an answer. The library is imported when it
is needed, so that a hub on SQL does without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from localmem_hub.errors import (
    CommitError,
    DatabaseTimeoutError,
    MigrationError,
    StoreError,
    UnreachableError,
)

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient

_NO_SUCH_CONTAINER: Final = ("ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled")
_NOT_MET: Final = (304, 409, 412)


class GoneError(StoreError):
    """A blob that is written to is not there."""

    code = "gone"


class BlocksError(CommitError):
    """An append blob that has all the blocks that it may have."""

    code = "blocks"


@dataclass(frozen=True)
class Blob:
    """What is in a blob, of which version, and its metadata."""

    data: bytes
    etag: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Listed:
    """A blob as a list names it: its size in bytes, and when it changed, in milliseconds since 1970."""

    name: str
    size: int
    etag: str
    modified_ms: int
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Appended:
    """Where in its blob a block is, and how many blocks that has by now."""

    offset: int
    blocks: int


@dataclass
class Container:
    """Open one with `connecting.open_container`. `requests` counts what was sent, by method, tries included."""

    client: ContainerClient
    transport: Any
    requests: Counter[str] = field(default_factory=Counter)

    def read(self, name: str) -> Blob | None:
        """A whole blob; None if there is none."""
        with _failures(f"cannot read {name}"):
            try:
                stream = self._blob(name).download_blob()
                data = stream.readall()
            except _errors().ResourceNotFoundError as error:
                _need_container(error)
                return None
            return Blob(
                bytes(data), str(stream.properties.etag), _texts(stream.properties.metadata)
            )
        raise AssertionError("unreachable")

    def look(self, name: str) -> Listed | None:
        """What a list would tell of a blob; None if there is none."""
        with _failures(f"cannot look at {name}"):
            try:
                one = self._blob(name).get_blob_properties()
            except _errors().ResourceNotFoundError as error:
                _need_container(error)
                return None
            return _listed(one)
        raise AssertionError("unreachable")

    def tail(self, name: str, start: int) -> bytes | None:
        """What is in a blob from an offset on, nothing if that is its end; None if there is no blob."""
        with _failures(f"cannot read {name}"):
            try:
                return bytes(self._blob(name).download_blob(offset=start).readall())
            except _errors().ResourceNotFoundError as error:
                _need_container(error)
                return None
            except _errors().HttpResponseError as error:
                if error.status_code == 416:
                    return b""
                raise
        raise AssertionError("unreachable")

    def part(self, name: str, length: int) -> bytes | None:
        """So many bytes from the beginning of a blob; None if there is no blob."""
        with _failures(f"cannot read {name}"):
            try:
                stream = self._blob(name).download_blob(offset=0, length=length)
                return bytes(stream.readall())
            except _errors().ResourceNotFoundError as error:
                _need_container(error)
                return None
        raise AssertionError("unreachable")

    def create(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> bool:
        """A new blob; False if there is one (`If-None-Match: *`).

        After an answer that got lost it may be this very one: whoever must know looks what is in it.
        """
        with _failures(f"cannot create {name}"):
            try:
                self._blob(name).upload_blob(
                    data, length=len(data), overwrite=False, metadata=dict(metadata or {})
                )
            except _errors().HttpResponseError as error:
                return _not_met(error)
            return True
        raise AssertionError("unreachable")

    def replace(
        self, name: str, data: bytes, etag: str, metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Another content for this version of a blob; False if it is another by now (`If-Match`)."""
        from azure.core import MatchConditions

        with _failures(f"cannot replace {name}"):
            try:
                self._blob(name).upload_blob(
                    data,
                    length=len(data),
                    overwrite=True,
                    metadata=dict(metadata or {}),
                    etag=etag,
                    match_condition=MatchConditions.IfNotModified,
                )
            except _errors().HttpResponseError as error:
                return _not_met(error)
            return True
        raise AssertionError("unreachable")

    def create_log(self, name: str) -> bool:
        """A new, empty append blob; False if there is one (`If-None-Match: *`)."""
        from azure.core import MatchConditions

        with _failures(f"cannot create {name}"):
            try:
                self._blob(name).create_append_blob(match_condition=MatchConditions.IfMissing)
            except _errors().HttpResponseError as error:
                return _not_met(error)
            return True
        raise AssertionError("unreachable")

    def append(self, name: str, data: bytes) -> Appended:
        """Append a block, wherever the end is. Raises GoneError, BlocksError.

        After any other error it may be there, once or several times.
        """
        with _failures(f"cannot append to {name}"):
            answer = self._append(name, data)
            assert answer is not None
            return answer
        raise AssertionError("unreachable")

    def append_at(self, name: str, data: bytes, length: int) -> Appended | None:
        """Append a block if the blob has this length; None if it has another. Raises GoneError."""
        with _failures(f"cannot append to {name}"):
            return self._append(name, data, appendpos_condition=length)
        raise AssertionError("unreachable")

    def delete(self, name: str, etag: str | None = None) -> bool:
        """Take a blob away, of this version if one is named; whether it is gone."""
        from azure.core import MatchConditions

        condition: dict[str, Any] = {}
        if etag is not None:
            condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        with _failures(f"cannot delete {name}"):
            try:
                self._blob(name).delete_blob(**condition)
            except _errors().ResourceNotFoundError as error:
                _need_container(error)
            except _errors().HttpResponseError as error:
                return _not_met(error)
            return True
        raise AssertionError("unreachable")

    def names(self, prefix: str, *, metadata: bool = False) -> Iterator[Listed]:
        """The blobs whose names begin so, in the order of their names."""
        include = ["metadata"] if metadata else None
        with _failures(f"cannot list {prefix}"):
            for one in self.client.list_blobs(name_starts_with=prefix, include=include):
                yield _listed(one)

    def lease(self, name: str, seconds: int) -> str | None:
        """Have a blob's lease for so long, and the id it has; None while another one has it.

        The blob is made if there is none.
        """
        with _failures(f"cannot lease {name}"):
            for _ in range(2):
                try:
                    return str(self._blob(name).acquire_lease(lease_duration=seconds).id)
                except _errors().ResourceNotFoundError as error:
                    _need_container(error)
                    self.create(name, b"")
                except _errors().HttpResponseError as error:
                    _not_met(error)
                    return None
        return None

    def release(self, name: str, lease: str) -> None:
        """Give a lease back; one that is lost is lost, and raises nothing."""
        from azure.storage.blob import BlobLeaseClient

        with suppress(_errors().AzureError):
            BlobLeaseClient(self._blob(name), lease).release()

    def exists(self) -> bool:
        """Whether there is such a container."""
        with _failures("cannot look at the container"):
            return bool(self.client.exists())
        raise AssertionError("unreachable")

    def make(self) -> None:
        """Make the container if there is none."""
        with _failures("cannot make the container"), suppress(_errors().ResourceExistsError):
            self.client.create_container()

    def close(self) -> None:
        """Give back its connections."""
        # The library's errors refer to the answers they came with, and these to their connections: so
        # to forget the pools, as it does, would leave those open until the errors are collected.
        session = self.transport.session
        for adapter in session.adapters.values() if session is not None else ():
            pools = adapter.poolmanager.pools
            for key in pools.keys():  # noqa: SIM118 - it is no dict
                pools[key].close()
        self.client.close()

    def _blob(self, name: str) -> BlobClient:
        return self.client.get_blob_client(name)

    def _append(self, name: str, data: bytes, **conditions: Any) -> Appended | None:
        try:
            answer = self._blob(name).append_block(data, length=len(data), **conditions)
        except _errors().ResourceNotFoundError as error:
            _need_container(error)
            raise GoneError(f"{name} is not there") from None
        except _errors().HttpResponseError as error:
            if _code(error) == "BlockCountExceedsLimit":
                raise BlocksError(f"{name} has all the blocks that it may have") from None
            if conditions and error.status_code == 412:
                return None
            raise
        return Appended(
            int(str(answer["blob_append_offset"])), int(str(answer["blob_committed_block_count"]))
        )


def _errors() -> Any:
    from azure.core import exceptions

    return exceptions


@contextmanager
def _failures(doing: str) -> Iterator[None]:
    """Turn what the library raises into StoreError, or the kind of it that fits."""
    try:
        yield
    except _errors().AzureError as error:
        raise translate(doing, error) from None


def translate(doing: str, error: Any) -> StoreError:
    """What the storage's answer means to the hub. No name of an account, no key and no data is in it."""
    errors = _errors()
    status = getattr(error, "status_code", None)
    code = _code(error)
    if code in _NO_SUCH_CONTAINER:
        return MigrationError(f"{doing}: {_NO_CONTAINER}")
    if isinstance(error, errors.ClientAuthenticationError) or status in (401, 403):
        return UnreachableError(
            f"{doing}: the storage refuses this hub ({code or status}); look at its key or role, "
            "and at this machine's clock"
        )
    if status in (408, 429, 500, 502, 503, 504):
        return DatabaseTimeoutError(f"{doing}: the storage is busy ({code or status})")
    if isinstance(error, errors.ServiceResponseTimeoutError | errors.ServiceRequestTimeoutError):
        return DatabaseTimeoutError(f"{doing}: the storage does not answer in time")
    if status is None:
        return UnreachableError(f"{doing}: the storage cannot be reached ({type(error).__name__})")
    return CommitError(f"{doing}: the storage says {status} {code}".rstrip())


_NO_CONTAINER: Final = "there is no such container; run `localmem-hub migrate`, which makes it"


def _code(error: Any) -> str:
    """What the storage calls it: a text, or one of the library's enumeration of them."""
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))


def _need_container(error: Any) -> None:
    """A blob that is not there is an answer; a container that is not there is none."""
    if _code(error) in _NO_SUCH_CONTAINER:
        raise MigrationError(_NO_CONTAINER) from None


def _not_met(error: Any) -> bool:
    """False for a condition that was not met; anything else is raised again."""
    if error.status_code == 404:
        _need_container(error)
        return False
    if error.status_code in _NOT_MET and _code(error) not in _NO_SUCH_CONTAINER:
        return False
    raise error


def _listed(one: Any) -> Listed:
    etag = str(one.etag).strip('"')
    modified_ms = int(one.last_modified.timestamp() * 1000)
    return Listed(str(one.name), int(one.size), f'"{etag}"', modified_ms, _texts(one.metadata))


def _texts(metadata: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in (metadata or {}).items()}
