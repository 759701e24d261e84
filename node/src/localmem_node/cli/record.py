"""`localmem record`: one event from flags, or one JSON object per line of standard input."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from localmem_node.cli.output import escape, json_option, print_json, write_bytes
from localmem_node.cli.selecting import resolve_project
from localmem_node.client import DaemonClient
from localmem_node.lines import LINE_BYTES_MAX, read_lines
from localmem_node.problems import problem
from localmem_node.project import current_folder, project_id
from localmem_node.system import SystemClock
from localmem_protocol.errors import EventError
from localmem_protocol.events import KINDS, parse_draft
from localmem_protocol.limits import SNIPPET_BYTES_MAX

Line = tuple[int, dict[str, Any] | EventError]
"""A line's number from 1, and its event or what is wrong with it."""

BATCH_LINES_MAX: Final = 256
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
FAILURES_LISTED_MAX: Final = 10_000
"""Failed lines listed in the JSON result; further ones are only counted."""

_FLAGS: Final = {"filePath": "--file", "selectionRange": "--lines"}
_LINES: Final = re.compile(r"([0-9]{1,10})(?:[-,:]([0-9]{1,10}))?")


@click.command()
@click.option("--file", "path", help="The file that the event happened in.")
@click.option("--lines", help="Its lines: A-B, or one number.")
@click.option("--snippet", help="The text of the event.")
@click.option("--snippet-file", help="Where to read the text; - for standard input.")
@click.option("--kind", type=click.Choice(KINDS), help="[default: edit, or note without --file]")
@click.option("--timestamp", type=int, help="Milliseconds since 1970.  [default: now]")
@click.option("--hash", "hash_", help="Model response hash: 16 hex digits.")
@click.option("--tool", help="The tool that it comes from.")
@click.option("--session", help="The session that it belongs to.")
@click.option("--project", help="Project id or folder.  [default: the repository of the file]")
@click.option("--pin", is_flag=True, help="Keep it when others are evicted.")
@json_option
def record(as_json: bool, **flags: Any) -> int:
    """Remember one event given by flags, or one JSON object per line of standard input."""
    if any(value not in (None, False) for value in flags.values()):
        return _record_one(flags, as_json)
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError("give --file, --lines and --snippet, or JSON lines on stdin")
    with DaemonClient() as client:
        return _Lines(client, as_json).run(lambda size: os.read(sys.stdin.fileno(), size))


def _record_one(flags: dict[str, Any], as_json: bool) -> int:
    event = _event(flags)
    _check(event)
    with DaemonClient() as client:
        answer = client.record([event], current_folder())
    for failure in answer["failed"]:
        raise EventError(failure["field"], failure["message"])
    if as_json:
        print_json(answer)
    else:
        click.echo(f"recorded {answer['recorded'][0]['id']}")
    return 0


def _event(flags: dict[str, Any]) -> dict[str, Any]:
    path, project = flags["path"], flags["project"]
    if project is None:
        project = project_id(Path(path).parent if path else Path())
    else:
        project = resolve_project(project)
    return {
        "timestamp": SystemClock().now_ms() if flags["timestamp"] is None else flags["timestamp"],
        "filePath": path,
        "selectionRange": _range(flags["lines"]),
        "snippet": _snippet(flags["snippet"], flags["snippet_file"]),
        "modelResponseHash": flags["hash_"],
        "kind": flags["kind"] or ("edit" if path else "note"),
        "tool": flags["tool"],
        "session": flags["session"],
        "project": project,
        "pinned": flags["pin"],
    }


def _check(event: dict[str, Any]) -> None:
    """Raises EventError for what the daemon would refuse, or what could not even be sent to it."""
    try:
        parse_draft(event)
    except EventError as error:
        flag = _FLAGS.get(error.field)
        if flag is None or event[error.field] is not None:
            raise
        raise EventError(error.field, f"missing; give {flag}") from None


def _range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _LINES.fullmatch(text.strip())
    if match is None:
        raise click.UsageError(f"--lines: {text!r} is not A-B or one number")
    return int(match[1]), int(match[2] or match[1])


def _snippet(text: str | None, file: str | None) -> str:
    if (text is None) == (file is None):
        raise click.UsageError("give either --snippet or --snippet-file")
    if text is not None:
        return text
    assert file is not None
    if file == "-":
        data = sys.stdin.buffer.read(SNIPPET_BYTES_MAX + 1)
    else:
        with Path(file).open("rb") as stream:
            data = stream.read(SNIPPET_BYTES_MAX + 1)
    if len(data) > SNIPPET_BYTES_MAX:
        raise EventError("snippet", f"{file} has more than {SNIPPET_BYTES_MAX} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise EventError("snippet", f"{file} is not UTF-8 at byte {error.start}") from None


class _Lines:
    """Records lines in batches; prints as it goes, so that memory does not grow with the input."""

    def __init__(self, client: DaemonClient, as_json: bool) -> None:
        self._client = client
        self._as_json = as_json
        self._recorded = 0
        self._failed = 0
        self._failures: list[dict[str, Any]] = []
        self._at = 1  # the first line that nothing was said of yet

    def run(self, read: Callable[[int], bytes]) -> int:
        """Whatever stops it, what was recorded until then is reported, and the line it stopped at."""
        if self._as_json:
            write_bytes(b'{"recorded":[')
        error: Exception | None = None
        try:
            for group in read_lines(read):
                for batch in _batches(group):
                    self._send(batch)
        except BrokenPipeError:
            raise
        except Exception as caught:
            error = caught
        self._finish(error)
        if error is not None and not self._as_json:
            raise error
        return 1 if self._failed or error else 0

    def _send(self, batch: list[Line]) -> None:
        self._at = batch[0][0]
        events = [event for _, event in batch if not isinstance(event, EventError)]
        answer: dict[str, Any] = {"recorded": [], "failed": []}
        if events:
            answer = self._client.record(events, current_folder())
        failed = {failure["index"]: failure for failure in answer["failed"]}
        recorded = iter(answer["recorded"])
        index = 0
        for number, event in batch:
            if isinstance(event, EventError):
                self._fail(number, event.field, event.problem)
                continue
            if index in failed:
                self._fail(number, failed[index]["field"], failed[index]["message"])
            else:
                self._note(number, next(recorded)["id"])
            index += 1
        self._at = batch[-1][0] + 1

    def _note(self, number: int, event_id: str) -> None:
        if self._as_json:
            entry = msgspec.json.encode({"line": number, "id": event_id})
            write_bytes(b"," + entry if self._recorded else entry)
        self._recorded += 1

    def _fail(self, number: int, field: str, message: str) -> None:
        self._failed += 1
        if not self._as_json:
            where = f"{field}: " if field else ""
            click.echo(escape(f"localmem: line {number}: {where}{message}"), err=True)
        elif len(self._failures) < FAILURES_LISTED_MAX:
            self._failures.append({"line": number, "field": field, "message": message})

    def _finish(self, error: Exception | None) -> None:
        if not self._as_json:
            lost = f", {self._failed} lines failed" if self._failed else ""
            stopped = f"; stopped at line {self._at}" if error else ""
            click.echo(f"recorded {self._recorded} events{lost}{stopped}")
            return
        counts = {"recorded_count": self._recorded, "failed_count": self._failed}
        rest: dict[str, Any] = {"failed": self._failures} | counts
        if error is not None:
            rest |= {"stopped_at_line": self._at} | problem(error)[1]
        write_bytes(b"]," + msgspec.json.encode(rest)[1:] + b"\n")


def _batches(group: list[tuple[int, bytes | None]]) -> Iterator[list[Line]]:
    """The lines of a group in their order, in pieces that go in one call each."""
    batch: list[Line] = []
    size = 0
    for number, line in group:
        length = len(line or b"")
        if batch and (len(batch) >= BATCH_LINES_MAX or size + length > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        try:
            batch.append((number, _decode(line)))
        except EventError as error:
            batch.append((number, error))
        size += length
    if batch:
        yield batch


def _decode(line: bytes | None) -> dict[str, Any]:
    if line is None:
        raise EventError("", f"is longer than {LINE_BYTES_MAX} bytes")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise EventError("", f"is not UTF-8 at byte {error.start}") from None
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EventError("", f"is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise EventError("", "is not a JSON object")
    return fields
