"""The functions of both hook clients, called alike: those in Python here, the compiled ones by a probe."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from localmem_node.hook import client


class Functions(Protocol):
    """What is decided without a daemon; see `localmem_node.hook.client`."""

    def begins_turn(self, body: bytes) -> bool: ...

    def parse_answer(self, received: bytes, ended: bool) -> bytes | None: ...

    def runtime_dir(self, environment: Mapping[bytes, bytes]) -> bytes | None: ...

    def is_in_memory(self, path: Path) -> bool: ...

    def keep(self, path: Path, editor: bytes, body: bytes) -> None: ...


class PythonFunctions:
    """Those in Python."""

    def begins_turn(self, body: bytes) -> bool:
        return client.begins_turn(body)

    def parse_answer(self, received: bytes, ended: bool) -> bytes | None:
        return client.parse_answer(received, ended)

    def runtime_dir(self, environment: Mapping[bytes, bytes]) -> bytes | None:
        return client.runtime_dir(dict(environment))

    def is_in_memory(self, path: Path) -> bool:
        with _opened(path) as folder:
            return client.is_in_memory(folder)

    def keep(self, path: Path, editor: bytes, body: bytes) -> None:
        with _opened(path) as folder:
            client.keep(folder, editor, body)


class Probe:
    """Those of the compiled client, by `clients/go/internal/hookprobe`."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def begins_turn(self, body: bytes) -> bool:
        return bool(self._call("beginsTurn", body=_base64(body)))

    def parse_answer(self, received: bytes, ended: bool) -> bytes | None:
        answer = self._call("parseAnswer", body=_base64(received), ended=ended)
        return base64.b64decode(answer["body"] or "") if answer["whole"] else None

    def runtime_dir(self, environment: Mapping[bytes, bytes]) -> bytes | None:
        given = {name.decode(): _base64(value) for name, value in environment.items()}
        answer = self._call("runtimeDir", environment=given)
        return base64.b64decode(answer["path"]) if answer["found"] else None

    def is_in_memory(self, path: Path) -> bool:
        return bool(self._call("isInMemory", path=_base64(os.fsencode(path))))

    def keep(self, path: Path, editor: bytes, body: bytes) -> None:
        where = _base64(os.fsencode(path))
        assert self._call("keep", path=where, editor=editor.decode(), body=_base64(body))

    def _call(self, name: str, **fields: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": name, **fields}).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    folder = os.open(path, os.O_RDONLY)
    try:
        yield folder
    finally:
        os.close(folder)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
