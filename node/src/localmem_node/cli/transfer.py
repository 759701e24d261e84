"""`localmem export` and `localmem import`."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from localmem_node.cli.output import escape, json_option, print_json
from localmem_node.cli.progress import Counter
from localmem_node.cli.selecting import filter_fields, filters
from localmem_node.client import DaemonClient
from localmem_node.errors import ConfigError, TransferError
from localmem_node.secret_text import secret_text
from localmem_node.selection import parse_selection
from localmem_node.system import SystemClock, SystemRandom
from localmem_node.transcripts.sources import KINDS, Kind
from localmem_node.transfer.exporting import Exported, new_file, write_export
from localmem_node.transfer.importing import Imported, check, open_source, send
from localmem_node.transfer.seal import seal_under

VARIABLE: Final = "LOCALMEM_EXPORT_PASSPHRASE"
REFUSED_SHOWN_MAX: Final = 20
"""Refused lines shown to people; `--json` lists more."""


@click.command("export")
@click.argument("file", default="-", metavar="[FILE|-]")
@filters()
@click.option("--seal", is_flag=True, help="Encrypt it under a passphrase.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
def export_(file: str, seal: bool, force: bool, as_json: bool, **narrowed: Any) -> None:
    """Write everything remembered to FILE, or to standard output.

    JSON Lines, in order, with a checksum; `localmem import` takes it. With --seal it is encrypted
    under a passphrase, from LOCALMEM_EXPORT_PASSPHRASE or LOCALMEM_EXPORT_PASSPHRASE_FILE, or asked
    for.
    """
    if file == "-" and as_json:
        raise click.UsageError("--json needs a FILE: standard output would be the export itself")
    if file == "-" and seal and sys.stdout.isatty():
        raise click.UsageError("a sealed export is no text for a terminal; name a FILE")
    clock, random = SystemClock(), SystemRandom()
    selection = parse_selection(filter_fields(narrowed))
    environment = dict(os.environ)
    passphrase = _passphrase(environment, confirm=True)
    with _interruptible(), DaemonClient(environment) as client, Counter("exported") as progress:
        write = partial(
            write_export,
            fetch=client.export_page,
            selection=selection,
            created=clock.now_ms(),
            seal=(lambda to: seal_under(passphrase(), to, random)) if seal else None,
            progress=progress,
        )
        if file == "-":
            exported = write(sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
        else:
            with new_file(Path(file), random, force=force) as stream:
                exported = write(stream.write)
    if file != "-":
        _tell_exported(Path(file), exported, seal, as_json)
    if not seal:
        click.echo("localmem: the export holds everything in the clear; --seal encrypts", err=True)


@click.command("import")
@click.argument("source", metavar="FILE|-|claude-code|codex|cursor|claude-mem")
@click.argument("path", required=False)
@click.option("--since", metavar="TIME", help="Of transcripts: leave out what is older.")
@click.option("--again", is_flag=True, help="Of transcripts: read also what was read before.")
@json_option
def import_(source: str, path: str | None, since: str | None, again: bool, as_json: bool) -> int:
    """Take in what `localmem export` wrote, or what editors wrote down of their sessions.

    An export is checked to its end before anything is kept; what is there already stays as it is.
    Exit code 1 if it is damaged, and then nothing was kept, or if events in it were refused. (A file
    that is called as an editor is: ./codex)

    Transcripts of Claude Code, Codex and Cursor are looked for where these keep them, or in PATH, as
    is the database of claude-mem. A second import goes on where the first ended; what hooks captured
    is known. --since takes a date, a time, or a span such as 30d.
    """
    kind: Kind | None = next((one for one in KINDS if source == one), None)
    if kind is not None:
        from localmem_node.cli.transcripts import import_transcripts

        return import_transcripts(kind, path, since, again=again, as_json=as_json)
    if path is not None or since is not None or again:
        raise click.UsageError(f"PATH, --since and --again go with one of {', '.join(KINDS)}")
    return _import_export(source, as_json=as_json)


def _import_export(file: str, *, as_json: bool) -> int:
    environment = dict(os.environ)
    passphrase = _passphrase(environment, confirm=False)
    name = "standard input" if file == "-" else file
    with _open(file) as descriptor, open_source(descriptor, passphrase, SystemRandom()) as source:
        with _named(name, "nothing was imported"):
            check(source)
        with DaemonClient(environment) as client, Counter("imported") as progress:
            report = send(source.read(), client.import_events, progress)
    if as_json:
        print_json(asdict(report))
    else:
        _tell_imported(report)
    return 1 if report.refused_count else 0


def _tell_exported(path: Path, exported: Exported, sealed: bool, as_json: bool) -> None:
    size = path.stat().st_size
    if as_json:
        print_json(
            {"path": str(path), "events": exported.events, "bytes": size, "sealed": sealed,
             "sha256": exported.sha256}
        )  # fmt: skip
    else:
        how = "sealed" if sealed else "in the clear"
        click.echo(escape(f"exported {exported.events} events to {path}, {how}: {size} bytes"))


def _tell_imported(report: Imported) -> None:
    for one in report.refused[:REFUSED_SHOWN_MAX]:
        click.echo(escape(f"localmem: line {one['line']}: {one['reason']}"), err=True)
    if report.refused_count > REFUSED_SHOWN_MAX:
        more = report.refused_count - REFUSED_SHOWN_MAX
        click.echo(f"localmem: and {more} more lines; --json lists them", err=True)
    refused = f", {report.refused_count} refused" if report.refused_count else ""
    click.echo(f"imported {report.new} events, {report.known} were known{refused}")
    if report.too_old:
        click.echo(f"{report.too_old} were left out: the ring is full of newer ones")
    if report.evicted:
        click.echo(f"{report.evicted} older events left the full ring to make room")


@contextlib.contextmanager
def _open(file: str) -> Iterator[int]:
    if file == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise click.UsageError("name a FILE, or pipe an export to standard input")
        yield sys.stdin.fileno()
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise TransferError(f"{file} is a folder; name a file in it")
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _named(name: str, outcome: str) -> Iterator[None]:
    """Errors say which file is meant, and what became of it."""
    try:
        yield
    except TransferError as error:
        raise type(error)(f"{name}: {error}; {outcome}") from None


def _passphrase(environment: MutableMapping[str, str], *, confirm: bool) -> Callable[[], str]:
    """How to get the passphrase once it is needed. Takes its variables out of `environment`, which
    a daemon may be started with. Raises ConfigError.
    """
    given = secret_text(environment, VARIABLE, f"{VARIABLE}_FILE")
    for name in (VARIABLE, f"{VARIABLE}_FILE"):
        environment.pop(name, None)
    return lambda: given if given is not None else _ask(confirm=confirm)


def _ask(*, confirm: bool) -> str:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise ConfigError(
            f"no terminal to ask for the passphrase; set {VARIABLE} or {VARIABLE}_FILE"
        ) from None
    passphrase: str = click.prompt(
        "Passphrase of the export", hide_input=True, confirmation_prompt=confirm, err=True
    )
    return passphrase


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A request to end is an interruption, like Ctrl-C, so that no half file is left."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in numbers
        if signal.getsignal(number) is signal.SIG_DFL  # nohup ignores one
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
