"""A language model on loopback that follows a script: what Claude Code and Codex are driven by.

It speaks as much of two interfaces as the clients need, streamed: Anthropic's Messages and OpenAI's
Responses. A script is a function from the conversation so far to what the model does next, in words
of neither client. Every request is kept, so that what reached the model can be counted and looked at.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from types import TracebackType
from typing import Any, Final, Literal, Self

Api = Literal["messages", "responses"]


@dataclass(frozen=True, slots=True)
class Say:
    """The end of a turn."""

    text: str


@dataclass(frozen=True, slots=True)
class Shell:
    """A command line."""

    command: str


@dataclass(frozen=True, slots=True)
class Tool:
    """Any tool of the client by its own name; one of an MCP server is `mcp__SERVER__TOOL`."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Write:
    """A new file; `path` relative to the folder that the client works in."""

    path: str
    content: str


Action = Say | Shell | Tool | Write


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client; `size` in bytes."""

    api: Api
    body: Mapping[str, Any]
    size: int

    @property
    def text(self) -> str:
        """All of it, as JSON with characters as they are."""
        return json.dumps(self.body, ensure_ascii=False)

    @property
    def tools(self) -> list[str]:
        """Names of the tools that the client offers."""
        return [name for name, _ in _tools(self.body)]

    @property
    def prompt(self) -> str:
        """What the user wrote last."""
        return _since_prompt(self.api, self.body)[0]

    @property
    def results(self) -> list[str]:
        """What the tools called since then have answered."""
        return _since_prompt(self.api, self.body)[1]


Script = Callable[[Request], Action]


class ScriptedModel:
    """A server for as long as the `with` lasts; `url` is its root.

    What comes without tools (a title, a summary) is answered by `aside`.
    """

    def __init__(self, script: Script, *, aside: str = "Noted.") -> None:
        self.requests: list[Request] = []
        self._script, self._aside = script, Say(aside)
        self._numbers = count(1)
        model = self

        class Handler(_Handler):
            def answer(self, api: Api, body: Mapping[str, Any], size: int) -> None:
                self.stream(model._events(Request(api, body, size)))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _events(self, request: Request) -> Iterator[dict[str, Any]]:
        self.requests.append(request)
        action = self._script(request) if request.tools else self._aside
        number = next(self._numbers)
        make = _message_events if request.api == "messages" else _response_events
        return make(request, action, number)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, api: Api, body: Mapping[str, Any], size: int) -> None:
        raise AssertionError("defined by the server")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._json({})

    def do_GET(self) -> None:
        self._json({"object": "list", "data": [], "models": []})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        if path.endswith("/messages"):
            self.answer("messages", json.loads(data), len(data))
        elif path.endswith("/responses"):
            self.answer("responses", json.loads(data), len(data))
        else:
            self._json({"input_tokens": 1} if path.endswith("/count_tokens") else {})

    def stream(self, events: Iterator[dict[str, Any]]) -> None:
        """Server-sent events, and the end of the connection."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for event in events:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        self.close_connection = True

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


_USAGE: Final = {
    "input_tokens": 10,
    "output_tokens": 5,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
}
_SHELLS: Final = {"Bash": "command", "exec_command": "cmd", "shell_command": "command"}
"""Tools that take a command line, and the argument that it is."""


def _message_events(request: Request, action: Action, number: int) -> Iterator[dict[str, Any]]:
    """https://docs.anthropic.com/en/api/messages-streaming."""
    if isinstance(action, Say):
        block: dict[str, Any] = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": action.text}
        reason = "end_turn"
    else:
        name, arguments, _ = _call(request, action)
        block = {"type": "tool_use", "id": f"toolu_{number:020}", "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
        reason = "tool_use"
    message: dict[str, Any] = {
        "id": f"msg_{number:020}",
        "type": "message",
        "role": "assistant",
        "model": request.body.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _USAGE,
    }
    yield {"type": "message_start", "message": message}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": reason, "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


def _response_events(request: Request, action: Action, number: int) -> Iterator[dict[str, Any]]:
    """https://platform.openai.com/docs/api-reference/responses-streaming."""
    if isinstance(action, Say):
        content = [{"type": "output_text", "text": action.text}]
        item: dict[str, Any] = {"type": "message", "id": f"m_{number}", "role": "assistant"}
        item["content"] = content
    else:
        name, arguments, namespace = _call(request, action)
        item = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number:012}"}
        item |= {"name": name, "arguments": json.dumps(arguments)}
        if namespace is not None:
            item["namespace"] = namespace
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }
    response = {"id": f"resp_{number}"}
    yield {"type": "response.created", "response": response}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": response | {"usage": usage}}


def _call(
    request: Request, action: Shell | Tool | Write
) -> tuple[str, Mapping[str, Any], str | None]:
    """Name, arguments and namespace of a call, as the client offers it."""
    offered = dict(_tools(request.body))
    if isinstance(action, Write):
        if "Write" in offered:
            return "Write", {"file_path": action.path, "content": action.content}, None
        lines = "".join(f"+{line}\n" for line in action.content.splitlines())
        patch = f"*** Begin Patch\n*** Add File: {action.path}\n{lines}*** End Patch"
        action = Shell(f"apply_patch <<'PATCH'\n{patch}\nPATCH")
    if isinstance(action, Shell):
        name = next(name for name in _SHELLS if name in offered)
        return name, {_SHELLS[name]: action.command}, None
    namespace = offered.get(action.name)
    if namespace is not None:
        return action.name.removeprefix(namespace).lstrip("_"), action.arguments, namespace
    return action.name, action.arguments, None


def _tools(body: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Names of the tools, and the namespace of each that is in one."""
    for tool in body.get("tools") or ():
        if tool.get("type") == "namespace":
            for each in tool.get("tools", ()):
                yield f"{tool['name'].rstrip('_')}__{each['name']}", tool["name"]
        else:
            yield tool.get("name") or tool.get("type", ""), None


def _since_prompt(api: Api, body: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The last prompt of the user, and what tools have answered since."""
    prompt, results = "", list[str]()
    for role, text, is_result in _parts(api, body):
        if is_result:
            results.append(text)
        elif role == "user" and not text.lstrip().startswith("<"):  # what a client adds is tagged
            prompt, results = text, []
    return prompt, results


def _parts(api: Api, body: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """(role, text, whether it is the answer of a tool), in order."""
    items: Sequence[Mapping[str, Any]] = body.get("messages" if api == "messages" else "input", ())
    for item in items:
        if str(item.get("type", "")).endswith("_output"):
            yield "tool", _text(item.get("output")), True
            continue
        content = item.get("content") or ()
        for part in [{"text": content}] if isinstance(content, str) else content:
            is_result = part.get("type") == "tool_result"
            text = _text(part.get("content") if is_result else part.get("text"))
            if text:
                yield item.get("role", ""), text, is_result


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    return "\n".join(str(part.get("text", "")) for part in content)
