"""`localmem import claude-code|codex|cursor|claude-mem`: what editors wrote down, into events."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from localmem_node.cli.output import escape, print_fields, print_json
from localmem_node.cli.progress import Counter
from localmem_node.cli.times import parse_time
from localmem_node.client import DaemonClient
from localmem_node.config import Settings
from localmem_node.system import SystemClock
from localmem_node.transcripts.claude_mem import folders_of_transcripts, import_database
from localmem_node.transcripts.importing import Importer
from localmem_node.transcripts.progress import Progress
from localmem_node.transcripts.sending import Capture, Imported, Sender
from localmem_node.transcripts.sources import NAMES, Kind, place_of, sources_of

SHOWN_MAX: Final = 20
"""Refused events and unreadable files shown to people; `--json` lists more."""


def import_transcripts(
    kind: Kind, path: str | None, since: str | None, *, again: bool, as_json: bool
) -> int:
    """Import transcripts of a kind; exit code 1 if some could not be read."""
    environment = dict(os.environ)
    since_ms = parse_time("--since", since, SystemClock().now_ms())
    with DaemonClient(environment) as client:
        report = imported(
            kind,
            Path(path) if path is not None else None,
            client.settings,
            environment,
            capture_with(client),
            since_ms=since_ms,
            again=again,
        )
    if as_json:
        print_json(asdict(report))
    else:
        _tell(kind, report)
    return 1 if report.unreadable else 0


def capture_with(client: DaemonClient) -> Capture:
    """Hands events of transcripts to the daemon, which knows those that hooks told it."""

    def capture(events: Sequence[Mapping[str, Any]], folder: str | None) -> dict[str, Any]:
        body = {"events": events, "folder": folder, "imported": True}
        return client.call("POST", "/v1/capture", body)

    return capture


def imported(
    kind: Kind,
    path: Path | None,
    settings: Settings,
    environment: dict[str, str],
    capture: Capture,
    *,
    since_ms: int | None = None,
    again: bool = False,
) -> Imported:
    """Import the transcripts in `path`, or where `kind` keeps them, by way of `capture`."""
    report = Imported()
    sources = sources_of(kind, path, environment)
    progress = Progress(settings.state_dir / "imports" / kind, ignored=again)
    with Counter("imported") as counter:
        sender = Sender(capture, report, since_ms=since_ms, progress=counter)
        if kind == "claude-mem":
            folder_of = folders_of_transcripts(place_of("claude-code", environment))
            for source in sources:
                import_database(source, sender, report, progress, folder_of, since_ms)
        else:
            Importer(kind, sender, report, progress, since_ms).run(sources)
    return report


def _tell(kind: Kind, report: Imported) -> None:
    for line in report.unreadable[:SHOWN_MAX]:
        click.echo(escape(f"localmem: {line}"), err=True)
    for one in report.refusals[:SHOWN_MAX]:
        click.echo(
            escape(f"localmem: {one['kind']} of {one['session']}: {one['reason']}"), err=True
        )
    for what, count in (
        ("files", len(report.unreadable)),
        ("refused events", report.refused),
    ):
        if count > SHOWN_MAX:
            more = count - SHOWN_MAX
            click.echo(f"localmem: and {more} more {what}; --json lists them", err=True)
    fields: dict[str, object] = {
        f"{NAMES[kind]} files": report.files,
        "lines": report.lines,
        "recorded": report.recorded,
        "known before": report.known,
        "too old for the full store": report.too_old,
        "before --since": report.before,
        "of a pause": report.paused,
        "refused": report.refused,
        "lines without sense": report.skipped,
    }
    always = ("lines", "recorded", "known before", f"{NAMES[kind]} files")
    print_fields({name: count for name, count in fields.items() if count or name in always})
