"""A hub of models on this machine: as much of its interface as a download of one repository takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def model_hub(name: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serves `folder` as the repository `name`: (address, paths that were asked for)."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            file = files.get(path.removeprefix(f"/{name}/resolve/{COMMIT}/"))
            if path.startswith(f"/api/models/{name}/tree/"):
                self._answer(json.dumps([_entry(one, files[one]) for one in files]).encode())
            elif path.startswith(f"/api/models/{name}"):
                listed = [{"rfilename": one} for one in files]
                about = {"id": name, "sha": COMMIT, "private": False, "siblings": listed}
                self._answer(json.dumps(about).encode())
            elif file is not None:
                self._answer(file.read_bytes())
            else:
                self.send_error(404)

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _entry(name: str, path: Path) -> dict[str, object]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": digest[:40]}
