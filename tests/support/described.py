"""Answers of a hub, and of a daemon, held against their own descriptions."""

from __future__ import annotations

import functools
import json
import re
from typing import Any
from urllib.parse import unquote

import httpx2
from jsonschema import Draft202012Validator

from localmem_hub.openapi import document
from localmem_node.daemon.openapi import document as daemon_document

_JSON = "application/json"
_LINES = "application/x-ndjson"


class Described:
    """An OpenAPI document that answers are held against."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._components = document["components"]
        found = []
        for path, methods in document["paths"].items():
            pattern = re.compile(re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(path)))
            found += [(method, pattern, operation) for method, operation in methods.items()]
        # The longer ones first: `/mailboxes/{number}/join` is no slot.
        self._operations = sorted(found, key=lambda one: -len(one[1].pattern))
        self._validators: dict[str, Draft202012Validator] = {}

    def check(self, method: str, path: str, status: int, kind: str | None, body: bytes) -> None:
        """Fail if a documented request is answered in a way that is not."""
        path = unquote(path.partition("?")[0])
        asked = (
            operation
            for its_method, pattern, operation in self._operations
            if its_method == method.lower() and pattern.fullmatch(path)
        )
        operation = next(asked, None)
        if operation is None:
            return  # nothing that is documented was asked
        described = operation["responses"].get(str(status))
        assert described is not None, f"{method} {path}: {status} is not documented"
        if "$ref" in described:
            described = self._components["responses"][described["$ref"].rpartition("/")[2]]
        content = described.get("content", {})
        if not content:
            assert body == b""
            return
        ((expected, part),) = content.items()
        assert kind == expected
        if kind == _JSON:
            self._validator(part["schema"]).validate(json.loads(body))
        elif kind == _LINES:
            for line in body.splitlines():
                self._validator(part["schema"]).validate(json.loads(line))

    def _validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        key = json.dumps(schema)
        if key not in self._validators:
            whole = schema | {"components": self._components}
            self._validators[key] = Draft202012Validator(whole)
        return self._validators[key]


@functools.cache
def described_hub() -> Described:
    """The hub's interface."""
    return Described(document())


@functools.cache
def described_daemon() -> Described:
    """The daemon's interface."""
    return Described(daemon_document())


def check_described(method: str, path: str, answer: httpx2.Response) -> None:
    """Fail if a hub answers a documented request in a way that is not."""
    kind = answer.headers.get("content-type")
    described_hub().check(method, path, answer.status_code, kind, answer.content)
