"""Answers of a hub, held against its own description of them."""

from __future__ import annotations

import functools
import json
import re
from typing import Any
from urllib.parse import unquote

import httpx2
from jsonschema import Draft202012Validator

from localmem_hub.openapi import JSON, document


@functools.cache
def _operations() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    found = []
    for path, methods in document()["paths"].items():
        pattern = re.compile(re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(path)))
        found += [(method, pattern, operation) for method, operation in methods.items()]
    # The longer ones first: `/mailboxes/{number}/join` is no slot.
    return sorted(found, key=lambda one: -len(one[1].pattern))


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema) | {"components": document()["components"]})


def check_described(method: str, path: str, answer: httpx2.Response) -> None:
    """Fail if a documented request is answered in a way that is not."""
    path = unquote(path.partition("?")[0])
    asked = (
        operation
        for its_method, pattern, operation in _operations()
        if its_method == method.lower() and pattern.fullmatch(path)
    )
    operation = next(asked, None)
    if operation is None:
        return  # nothing that is documented was asked
    described = operation["responses"].get(str(answer.status_code))
    assert described is not None, f"{method} {path}: {answer.status_code} is not documented"
    content = described.get("content", {})
    if not content:
        assert answer.content == b""
        return
    ((kind, body),) = content.items()
    assert answer.headers["content-type"] == kind
    if kind == JSON:
        _validator(json.dumps(body["schema"])).validate(answer.json())
