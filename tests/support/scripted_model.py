"""A model on loopback that says what a test wants: tool calls in turn, then a last sentence.

It answers as Anthropic's Messages and OpenAI's Responses do, as far as the command lines of Claude
Code and Codex need it, and keeps every request, so that a test can see what reached the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Call = tuple[str, dict[str, Any]]
"""A tool by the name that the client gives it, and its arguments."""


class ScriptedModel:
    """`calls` are made one a turn; `results` is what came back, as the model got it."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = list(calls)
        self.tools: dict[str, Any] = {}
        self.results: list[str] = []
        self.port = 0

    def anthropic(self, body: dict[str, Any]) -> dict[str, Any]:
        """The next content block."""
        self.tools |= {tool["name"]: tool for tool in body.get("tools", []) if "name" in tool}
        results = [
            _text(block.get("content"))
            for message in body.get("messages", [])
            if isinstance(message["content"], list)
            for block in message["content"]
            if block.get("type") == "tool_result"
        ]
        turn = self._turn(results)
        if turn < len(self.calls) and self.calls[turn][0] in self.tools:
            name, arguments = self.calls[turn]
            return {"type": "tool_use", "id": f"toolu_{turn}", "name": name, "input": arguments}
        return {"type": "text", "text": "Done."}

    def openai(self, body: dict[str, Any]) -> dict[str, Any]:
        """The next output item; Codex has the tools of a server in a namespace."""
        spaces: dict[str, str] = {}
        for tool in body.get("tools", []):
            for inner in tool.get("tools", []):
                self.tools[f"{tool['name']}__{inner['name']}"] = inner
                spaces[f"{tool['name']}__{inner['name']}"] = tool["name"]
        results = [
            _text(item.get("output"))
            for item in body.get("input", [])
            if str(item.get("type", "")).endswith("_output")
        ]
        turn = self._turn(results)
        if turn < len(self.calls) and self.calls[turn][0] in spaces:
            name, arguments = self.calls[turn]
            space = spaces[name]
            return {
                "type": "function_call",
                "id": f"fc_{turn}",
                "call_id": f"call_{turn}",
                "namespace": space,
                "name": name.removeprefix(f"{space}__"),
                "arguments": json.dumps(arguments),
            }
        content = [{"type": "output_text", "text": "Done."}]
        return {"type": "message", "id": f"m_{turn}", "role": "assistant", "content": content}

    def _turn(self, results: list[str]) -> int:
        """How many calls were made; clients also ask beside the conversation, for a title."""
        self.results = max(self.results, results, key=len)
        return len(results)


@contextmanager
def scripted_model(calls: Sequence[Call]) -> Iterator[ScriptedModel]:
    """A model that listens on loopback until the end of the block."""
    model = ScriptedModel(calls)

    class Handler(_Handler):
        scripted = model

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    model.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripted: ScriptedModel

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._json({})

    def do_GET(self) -> None:
        self._json({"data": [], "object": "list", "models": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        path = self.path.split("?")[0]
        if path.endswith("count_tokens"):
            self._json({"input_tokens": 10})
        elif path.endswith("/messages"):
            self._messages(body)
        elif path.endswith("/responses"):
            self._responses(body)
        else:
            self._json({})

    def _messages(self, body: dict[str, Any]) -> None:
        block = self.scripted.anthropic(body)
        stop = "tool_use" if block["type"] == "tool_use" else "end_turn"
        message: dict[str, Any] = {
            "id": f"msg_{len(self.scripted.results)}",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }
        if not body.get("stream"):
            self._json({**message, "content": [block], "stop_reason": stop, "stop_sequence": None})
            return
        empty: dict[str, Any]
        if block["type"] == "text":
            empty = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        else:
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
        ended = {"stop_reason": stop, "stop_sequence": None}
        self._events(
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": empty},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
        )

    def _responses(self, body: dict[str, Any]) -> None:
        item = self.scripted.openai(body)
        response = {"id": f"resp_{len(self.scripted.results)}"}
        usage = {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 15,
        }
        self._events(
            {"type": "response.created", "response": response},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": {**response, "usage": usage}},
        )

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _events(self, *events: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for event in events:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        self.close_connection = True


def _text(content: object) -> str:
    """What a model reads of a tool's answer."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)
