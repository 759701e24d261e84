"""What the plain HTTP endpoints share: bounded bodies, JSON in and out, errors in one form.

Everything but the messages in a mailbox is JSON, bytes in it as base64: a few requests a day, which a
person can follow with curl. A body is read within a bound of bytes and time before it is parsed, and
parsed strictly. What goes wrong is `{"error": {"code", "message", "field"}}`, as everywhere; some
errors have a value beside it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from localmem_hub.errors import StoppingError, StoreError
from localmem_hub.limits import BODY_SECONDS

if TYPE_CHECKING:
    from localmem_hub.audit import Audit

log: Final = logging.getLogger(__name__)

Body = TypeVar("Body", bound=msgspec.Struct)
Handler = Callable[[Request], Awaitable[Response]]

_AT: Final = re.compile(r" - at `\$\.([a-z_]+)[^`]*`$")
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_BEARER: Final = "bearer"


class Problem(Exception):
    """A request that is answered with an error; `more` stands beside it in the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.headers = headers
        self.more = more or {}


def guarded(handler: Handler, audit: Audit | None = None) -> Handler:
    """The handler, with what it raises as an answer. Who is refused is noted, if it says where."""

    @wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Problem as problem:
            request.app.state.hub.counts.request_errors[problem.code] += 1
            if audit is not None:
                _note(audit, request, problem)
            error = {"code": problem.code, "message": str(problem), "field": problem.field}
            content = {"error": error, **problem.more}
            return json_response(content, problem.status, problem.headers)
        except StoppingError as stopping:
            request.app.state.hub.counts.request_errors[stopping.code] += 1
            error = {"code": stopping.code, "message": str(stopping), "field": None}
            return json_response({"error": error}, 503, {"Retry-After": "1"})
        except StoreError as failure:
            request.app.state.hub.counts.request_errors[failure.code] += 1
            log.error("%s failed: %s", request.scope["route"].path, failure)
            error = {"code": "store", "message": "the hub's store does not answer", "field": None}
            return json_response({"error": error}, 503, {"Retry-After": "5"})

    return answer


def _note(audit: Audit, request: Request, problem: Problem) -> None:
    note = {401: audit.refused, 403: audit.refused, 429: audit.limited}.get(problem.status)
    if note is not None:
        note(
            peer_of(request),
            pool=request.path_params.get("pool"),
            path=request.scope["route"].path,
            code=problem.code,
            reason=str(problem),
        )


def peer_of(connection: HTTPConnection) -> str:
    """The address that a request or connection is from."""
    return connection.client.host if connection.client else ""


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in JSON, which nobody on its way may keep."""
    return Response(
        msgspec.json.encode(content),
        status,
        {"Cache-Control": "no-store", **(headers or {})},
        "application/json",
    )


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The body, if it is within the bound and comes in time. Raises Problem."""
    too_large = Problem(413, "too_large", f"a body of over {bytes_max} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > bytes_max:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > bytes_max:
                    raise too_large
    except TimeoutError:
        raise Problem(408, "timeout", "the body did not come in time") from None
    except ClientDisconnect:
        raise Problem(400, "body", "the body ends too early") from None
    return bytes(body)


async def decode_body(request: Request, kind: type[Body], bytes_max: int) -> Body:
    """The body as this struct. Raises Problem, which names the field."""
    body = await read_body(request, bytes_max)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        found = _AT.search(str(error))
        raise Problem(400, "body", str(error), field=found[1] if found else None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "body", f"not JSON: {error}") from None


def bearer(request: Request) -> str:
    """What stands in `Authorization: Bearer …`, or nothing."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == _BEARER else ""


def number_in(request: Request, name: str, default: int, most: int) -> int:
    """A number from the query string, 0 to `most`. Raises Problem."""
    number = parse_number(request.query_params.get(name, str(default)))
    if number is None or number > most:
        raise Problem(400, "query", f"must be a number from 0 to {most}", field=name)
    return number


def parse_number(text: str) -> int | None:
    """A number of at most nine digits and nothing else; None for any other text."""
    return int(text) if _NUMBER.fullmatch(text) else None
