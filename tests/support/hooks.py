"""Hooks as an editor would send them, to the daemon of a home."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.daemon.endpoint import hook_path
from support.daemon import environment


class Editor:
    """A session of Claude Code in a folder, over loopback HTTP."""

    def __init__(self, client: DaemonClient, session: str, folder: Path) -> None:
        state = client.running()
        assert state is not None
        settings = load_settings(client.environment)
        self._token = hook_path(settings).read_text().splitlines()[1]
        self._port = state.port
        self.session, self.folder = session, folder
        self._steps = 0

    def send(self, body: bytes, editor: str = "claude-code") -> tuple[int, dict[str, Any]]:
        """(status, answer) to a body as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self._token}"}
            connection.request("POST", f"/v1/hook/{editor}", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert isinstance(answer, dict)
            return response.status, answer
        finally:
            connection.close()

    def hook(self, name: str, editor: str = "claude-code", **fields: Any) -> str:
        """The context that the answer to a hook brings; empty if none."""
        payload = {"session_id": self.session, "cwd": str(self.folder), "hook_event_name": name}
        status, answer = self.send(json.dumps(payload | fields).encode(), editor)
        assert status == 200
        if not answer:
            return ""
        text = answer["hookSpecificOutput"]["additionalContext"]
        assert isinstance(text, str)
        assert text
        return text

    def leave(self, prompt: str) -> None:
        """UserPromptSubmit by an editor that does not wait for the answer."""
        body = json.dumps(
            {"session_id": self.session, "cwd": str(self.folder), "prompt": prompt,
             "hook_event_name": "UserPromptSubmit", "prompt_id": "left"}
        ).encode()  # fmt: skip
        head = (
            "POST /v1/hook/claude-code HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.sendall(head.encode() + body)

    def start(self, source: str = "startup") -> str:
        """SessionStart."""
        return self.hook("SessionStart", source=source)

    def prompt(self, text: str, **fields: Any) -> str:
        """UserPromptSubmit, each with an id of its own."""
        self._steps += 1
        return self.hook(
            "UserPromptSubmit", prompt=text, **{"prompt_id": f"p{self._steps}"} | fields
        )

    def edit(self, path: str, text: str, **fields: Any) -> str:
        """PostToolUse of an edit whose new text is at lines 3 to 3."""
        self._steps += 1
        place = str(self.folder / path)
        hunk = {"oldStart": 3, "oldLines": 0, "newStart": 3, "newLines": 1, "lines": [f"+{text}"]}
        call = {
            "tool_name": "Edit",
            "tool_use_id": f"t{self._steps}",
            "tool_input": {"file_path": place, "old_string": "", "new_string": text},
            "tool_response": {"filePath": place, "structuredPatch": [hunk]},
        }
        return self.hook("PostToolUse", **call | fields)

    def run(self, command: str, output: str = "ok", **fields: Any) -> str:
        """PostToolUse of a command."""
        self._steps += 1
        call = {
            "tool_name": "Bash",
            "tool_use_id": f"t{self._steps}",
            "tool_input": {"command": command},
            "tool_response": {"stdout": output, "stderr": ""},
        }
        return self.hook("PostToolUse", **call | fields)


def client_of(home: Path, **more: str) -> DaemonClient:
    """A client of a home's daemon, which is started."""
    client = DaemonClient(environment(home, **more))
    client.ensure_running()
    return client


def recorded(client: DaemonClient, session: str) -> list[dict[str, Any]]:
    """The events of a session, oldest first."""
    events = client.recent(1000, session=session)["events"]
    return list(reversed(events))
