"""One process of a function app: Azure's library for Python workers, and a small host in front of it.

    python azure_worker.py FOLDER SOCKET

FOLDER is what a function app was published as; on the listening SOCKET (a file descriptor) requests come
in. What Azure's host does is done here by the same messages: it loads the folder, asks what functions
there are, and turns each request into an invocation of the one whose route fits; `POST
/admin/functions/{name}` runs one with a timer. On Python 3.13 and later messages go to
`azure_functions_runtime`, which is what Azure itself calls; before that Azure's worker is no library, and
`azure.functions` 1.x is used as it uses it: its registry of functions, and its converters.

Runs in an environment without the tests': it imports none of them. The connection is closed after each
answer, so that the next request of a device goes to whichever process is free.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import uvicorn

NEWER = sys.version_info >= (3, 13)
Answer = tuple[int, list[tuple[str, str]], bytes]


class Message(SimpleNamespace):
    """What the library makes of the host's protocol: it sets fields, and reads a few back."""

    Failure, Success = 0, 1
    inout, out = 2, 1

    def WhichOneof(self, _: str) -> str | None:  # noqa: N802  as protobuf has it
        """The name of the field that is set."""
        return next((name for name, value in vars(self).items() if value is not None), None)


class Protos:
    """Every kind of message."""

    def __getattr__(self, name: str) -> type[Message]:
        kind = type(name, (Message,), {})
        setattr(self, name, kind)
        return kind


class Runtime:
    """`azure_functions_runtime`, called as Azure's proxy worker calls it."""

    def __init__(self) -> None:
        import azure_functions_runtime  # type: ignore[import-not-found]  # in its environment alone

        self._library = azure_functions_runtime
        self._protos = Protos()
        self._ids: dict[str, str] = {}

    async def load(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """name -> bindings of every function. Raises RuntimeError with what went wrong."""
        init = Message(capabilities={}, function_app_directory=str(folder))
        self._library.start_threadpool_executor()
        said = await self._library.worker_init_request(self._request("worker_init_request", init))
        self._check(said)
        said = await self._library.functions_metadata_request(self._request("metadata", Message()))
        self._check(said)
        found = {}
        for one in said.function_metadata_results or ():
            self._ids[one.name] = one.function_id
            loading = Message(function_id=one.function_id, metadata=one)
            loaded = self._request("function_load_request", loading)
            self._check(await self._library.function_load_request(loaded))
            found[one.name] = [json.loads(binding) for binding in one.raw_bindings]
        return found

    async def invoke(self, name: str, argument: str, data: Message) -> Any:
        """Run a function, and what it returned. Raises RuntimeError."""
        invocation = Message(
            invocation_id=str(uuid.uuid4()),
            function_id=self._ids[name],
            input_data=[Message(data=data, name=argument)],
            trigger_metadata={},
            trace_context=Message(trace_parent="", trace_state="", attributes={}),
            retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
        )
        # `WhichOneof` looks at the first field that is set, as it would at the one of a oneof.
        invocation.input_data[0].WhichOneof = lambda _: "data"
        said = await self._library.invocation_request(
            self._request("invocation_request", invocation)
        )
        self._check(said)
        return said.return_value

    async def http(self, name: str, argument: str, request: Message) -> Answer:
        """A request, answered."""
        answer = (await self.invoke(name, argument, Message(http=request))).http
        return int(answer.status_code), list(answer.headers.items()), answer.body.bytes or b""

    async def timer(self, name: str, argument: str) -> None:
        """The time has come."""
        await self.invoke(name, argument, Message(json=json.dumps({"IsPastDue": False})))

    def _request(self, name: str, message: Message) -> Message:
        properties = {"host": "127.0.0.1", "protos": self._protos}
        return Message(request=Message(**{name: message}), properties=properties)

    def _check(self, said: Any) -> None:
        if said.result.status != Message.Success:
            problem = said.result.exception
            raise RuntimeError(f"{problem.message}\n{problem.stack_trace}")


class Library:
    """`azure.functions` 1.x, used as the worker of Python 3.11 and 3.12 uses it."""

    def __init__(self) -> None:
        import azure.functions

        self._library: Any = azure.functions
        self._functions: dict[str, Any] = {}
        self._folder = ""

    async def load(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """As `Runtime` says."""
        import function_app  # type: ignore[import-not-found]  # what was published

        self._folder = str(folder)
        (app,) = [
            one
            for one in vars(function_app).values()
            if isinstance(one, self._library.FunctionRegister)
        ]
        self._functions = {str(one.get_function_name()): one for one in app.get_functions()}
        return {
            name: [json.loads(binding) for binding in one.get_raw_bindings()]
            for name, one in self._functions.items()
        }

    async def http(self, name: str, argument: str, request: Message) -> Answer:
        """As `Runtime` says."""
        datum = self._library.meta.Datum

        def texts(values: Mapping[str, str]) -> dict[str, Any]:
            return {key: datum(value, "string") for key, value in values.items()}

        value = {
            "method": datum(request.method, "string"),
            "url": datum(request.url, "string"),
            "headers": texts(request.headers),
            "params": texts(request.params),
            "query": texts(request.query),
            "body": datum(request.body.bytes or b"", "bytes"),
        }
        context = SimpleNamespace(
            function_name=name,
            function_directory=self._folder,
            invocation_id=str(uuid.uuid4()),
            thread_local_storage=None,
            trace_context=None,
            retry_context=None,
        )
        argued = self._convert("httpTrigger", datum(value, "http"))
        result = await self._call(name, **{argument: argued, "context": context})
        encoded = (
            self._library.get_binding_registry().get("http").encode(result, expected_type=None)
        )
        headers = [(key, one.value) for key, one in encoded.value["headers"].items()]
        return int(encoded.value["status_code"].value), headers, encoded.value["body"].value

    async def timer(self, name: str, argument: str) -> None:
        """As `Runtime` says."""
        due = self._library.meta.Datum(json.dumps({"IsPastDue": False}), "json")
        await self._call(name, **{argument: self._convert("timerTrigger", due)})

    def _convert(self, binding: str, value: Any) -> Any:
        converter = self._library.get_binding_registry().get(binding)
        return converter.decode(value, trigger_metadata={})

    async def _call(self, name: str, **arguments: Any) -> Any:
        return await self._functions[name].get_user_function()(**arguments)


class Host:
    """What Azure's host does for a request, as an ASGI application."""

    def __init__(self, worker: Runtime | Library) -> None:
        self._worker = worker
        self._functions: dict[str, list[dict[str, Any]]] = {}
        self._prefix = "api"

    async def load(self, folder: Path) -> None:
        """Read the folder."""
        settings = json.loads((folder / "host.json").read_text())
        assert settings["version"] == "2.0"
        self._prefix = settings["extensions"]["http"]["routePrefix"]
        self._functions = await self._worker.load(folder)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As ASGI says."""
        assert scope["type"] == "http"
        body = bytearray()
        while True:
            part = await receive()
            if part["type"] == "http.disconnect":
                return  # half a request is none, and nobody waits for an answer
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        try:
            status, headers, content = await self._answer(scope, bytes(body))
        except Exception as error:
            logging.exception("a function failed")
            status, headers, content = 500, [], str(error).encode()
        lines = [
            (name.encode(), value.encode())
            for name, value in headers
            if name.lower() not in ("content-length", "transfer-encoding")
        ]
        if status != 304:
            lines.append((b"content-length", b"%d" % len(content)))
        lines.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Any, body: bytes) -> Answer:
        path, method = scope["path"], scope["method"]
        if path.startswith("/admin/"):
            return await self._administer(path, method)
        for name, bindings in self._functions.items():
            for binding in bindings:
                if binding["type"] != "httpTrigger":
                    continue
                assert binding["authLevel"].lower() == "anonymous"
                assert binding["route"] == "{*path}"  # the one form that is known here
                if not path.startswith(f"/{self._prefix}"):
                    return 404, [], b""
                if method not in [one.upper() for one in binding["methods"]]:
                    return 405, [], b""
                return await self._worker.http(name, binding["name"], _request(scope, body))
        return 404, [], b""

    async def _administer(self, path: str, method: str) -> Answer:
        if (path, method) == ("/admin/functions", "GET"):
            return 200, [("content-type", "application/json")], json.dumps(self._functions).encode()
        name = path.rpartition("/")[2]
        for binding in self._functions.get(name, ()):
            if binding["type"] == "timerTrigger" and method == "POST":
                await self._worker.timer(name, binding["name"])
                return 202, [], b""
        return 404, [], b""


def _request(scope: Any, body: bytes) -> Message:
    """As Azure's front and host pass it on: with the address that it came from at the end of a header."""
    headers: dict[str, str] = {}
    for raw_name, raw in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    said, (host, port) = headers.get("x-forwarded-for"), scope["client"]
    headers["x-forwarded-for"] = f"{said}, {host}:{port}" if said else f"{host}:{port}"
    query = scope["query_string"].decode("latin-1")
    path = scope["raw_path"].decode("latin-1")
    authority = headers.get("host", "localhost")
    return Message(
        method=scope["method"],
        url=f"http://{authority}{path}{f'?{query}' if query else ''}",
        headers=headers,
        params={"path": path.lstrip("/")},
        query=dict(parse_qsl(query, keep_blank_values=True)),
        body=Message(bytes=body or None),
    )


async def serve(folder: Path, listener: socket.socket) -> None:
    """Load the folder, say so on standard output, and serve until ended."""
    host = Host(Runtime() if NEWER else Library())
    await host.load(folder)
    config = uvicorn.Config(
        host,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        ws="none",
    )
    server = uvicorn.Server(config)
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    await server.serve(sockets=[listener])


def main(folder: str, descriptor: str) -> None:
    """Be a process of a function app."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    os.chdir(folder)
    sys.path.insert(0, folder)
    asyncio.run(serve(Path(folder), socket.socket(fileno=int(descriptor))))


if __name__ == "__main__":
    main(*sys.argv[1:])
