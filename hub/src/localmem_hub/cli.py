"""The command line `localmem-hub`: serve, migrate, token; invite and pool (`cli_pools.py`); device
(`cli_devices.py`); quarantine and compact (`cli_care.py`); backup and restore (`cli_backup.py`);
doctor (`cli_doctor.py`).

Exit codes: 0 done, 1 it failed, 2 it was asked wrongly. Errors are one line on stderr; with
`--json` they are `{"error": {"code", "message", "field"}}` on stdout, as those of `localmem`.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from localmem_hub import __version__
from localmem_hub.cli_backup import backup, restore
from localmem_hub.cli_care import compact, quarantine
from localmem_hub.cli_devices import device
from localmem_hub.cli_doctor import doctor
from localmem_hub.cli_options import (
    auditing,
    blob_address,
    common,
    links_of,
    metrics_of,
    open_store,
    read_settings,
    when,
)
from localmem_hub.cli_pools import invitation, invite, pool
from localmem_hub.errors import ConfigError, HubError, PlainStoreError
from localmem_hub.logs import start_logging

if TYPE_CHECKING:
    from localmem_hub.blobs.address import Address
    from localmem_hub.seams import Kind, Role
    from localmem_hub.settings import Settings
    from localmem_hub.tokens import TokenRecord

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="localmem-hub")
def group() -> None:
    """Keep localmem's devices in sync, without being able to read what they say."""


for _command in (invite, invitation, pool, device, quarantine, compact, backup, restore, doctor):
    group.add_command(_command)


@group.command()
@common
@click.option("--host", help="Address to listen on; 127.0.0.1 unless told.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@click.option("--origin", metavar="URL", help="The address that devices dial, if not this one.")
@click.option("--open", "open_", is_flag=True, default=None, help="Let anybody make pools.")
@click.option("--fanout", metavar="URL", help="nats://HOST, between replicas on PostgreSQL.")
@click.option("--metrics", metavar="[HOST:]PORT", help="Serve metrics for Prometheus there.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="text unless told.")
@click.option(
    "--plain", is_flag=True, default=None, help="Serve plain Yjs rooms, which the hub can read."
)
@click.option("--tls-cert", metavar="FILE", help="Certificate chain in PEM: speak TLS.")
@click.option("--tls-key", metavar="FILE", help="Its key, without a password.")
@click.option("--migrate", is_flag=True, help="Bring an older database to this release first.")
def serve(
    config: Path | None,
    database: str | None,
    as_json: bool,
    host: str | None,
    port: int | None,
    origin: str | None,
    open_: bool | None,
    fanout: str | None,
    metrics: str | None,
    log_format: str | None,
    plain: bool | None,
    tls_cert: str | None,
    tls_key: str | None,
    migrate: bool,
) -> None:
    """Run the hub until it is told to stop."""
    from localmem_hub.app import Policy, create_app
    from localmem_hub.audit import open_audit
    from localmem_hub.server import run
    from localmem_hub.system import SystemClock, SystemRandom

    settings = read_settings(
        config,
        database=database,
        host=host,
        port=port,
        origin=origin,
        open=open_,
        fanout=fanout,
        metrics=metrics,
        log_format=log_format,
        tls_cert=tls_cert,
        tls_key=tls_key,
    )
    plain_rooms = settings.plain.enabled or bool(plain)
    policy = Policy(
        settings.open,
        settings.origins,
        # On blobs nobody is told what others store: whoever wants to know asks.
        websocket=blob_address(settings) is None,
        plain_workers=settings.plain.workers if plain_rooms else 0,
        past_epochs_days=settings.past_epochs_days,
        disk_free_mb=settings.disk_free_mb,
        proxies=settings.proxies,
        bounds=settings.limits,
        stop_seconds=settings.stop_seconds,
    )
    certificate = settings.certificate
    start_logging(settings.log_level, settings.log_format)
    if settings.host not in LOOPBACK and certificate is None:
        logging.getLogger(__name__).warning(
            "listening on %s without TLS: set tls_cert and tls_key, or put a TLS proxy in front; "
            "else tokens travel in the clear",
            settings.host,
        )
    if settings.host in ("0.0.0.0", "::") and not settings.origin:  # noqa: S104
        logging.getLogger(__name__).warning(
            "no `origin` is set: devices elsewhere cannot prove their keys; set it to the address "
            "that they dial"
        )
    if plain_rooms:
        logging.getLogger(__name__).warning(
            "plain rooms are on: this hub, and who has its database, can read what is in them"
        )

    def announce(url: str, bound: int) -> None:
        if as_json:
            click.echo(json.dumps({"url": url, "port": bound}))
        else:
            click.echo(f"localmem-hub listens on {url}")
        sys.stdout.flush()

    with ExitStack() as ending:
        ending.callback(open_audit(settings.audit))
        store = open_store(settings, migrate=migrate)
        ending.callback(store.close)
        for weakness in store.weaknesses():
            logging.getLogger(__name__).warning(
                "the database runs with %s=off: a power cut can take what devices were told is safe",
                weakness,
            )
        app = create_app(store, SystemClock(), SystemRandom(), policy, links_of(settings, store))
        beside = metrics_of(settings, app)
        stop_s = settings.stop_seconds
        run(app, settings.host, settings.port, announce, certificate, beside, stop_s)


@group.command()
@common
def migrate(config: Path | None, database: str | None, as_json: bool) -> None:
    """Bring the database to this release."""
    settings = read_settings(config, database=database)
    address = blob_address(settings)
    migrated = _migrate_tables(settings) if address is None else _migrate_blobs(address)
    text = "the database was migrated" if migrated else "the database was up to date already"
    click.echo(json.dumps({"migrated": migrated}) if as_json else text)


def _migrate_tables(settings: Settings) -> bool:
    from localmem_hub.database import open_engine, prepare

    engine = open_engine(settings.database)
    try:
        return prepare(engine, migrate=True)
    finally:
        engine.dispose()


def _migrate_blobs(address: Address) -> bool:
    from localmem_hub.blobs.connecting import open_container
    from localmem_hub.blobs.opening import prepare

    container = open_container(address)
    try:
        return prepare(container, migrate=True)
    finally:
        container.close()


@group.group()
def token() -> None:
    """Let devices in, and shut them out."""


@token.command("create")
@common
@click.option("--pool", help="The pool that it opens; made if there is none.")
@click.option(
    "--plain", metavar="ROOM", help="Instead: the plain Yjs room, which the hub can read."
)
@click.option("--device", metavar="HEX", help="The device it is for; else the first to use it.")
@click.option("--role", type=click.Choice(["writer", "reader"]), default="writer")
@click.option("--days", type=int, help="How long it is good for; until it is revoked, unless told.")
def create_token(
    config: Path | None,
    database: str | None,
    as_json: bool,
    pool: str | None,
    plain: str | None,
    device: str | None,
    role: Role,
    days: int | None,
) -> None:
    """Make a token, and print it: it is not shown again."""
    from localmem_hub.system import SystemClock, SystemRandom

    name = pool or plain
    if name is None or (pool and plain):
        raise ConfigError("pool: name a pool with --pool, or a plain room with --plain")
    kind: Kind = "plain" if plain else "sealed"
    settings = read_settings(config, database=database)
    store = open_store(settings)
    try:
        if kind == "plain" and store.shared:
            raise PlainStoreError
        now_ms = SystemClock().now_ms()
        with auditing(settings) as audit:
            made = store.tokens.create(
                name, device, role, SystemRandom(), now_ms, kind=kind, days=days
            )
            audit.note(
                "token_created", token=made.id, pool=name, device=device, role=role, days=days
            )
    finally:
        store.close()
    fields: dict[str, object] = {"id": made.id, "pool": name, "kind": kind, "device": device}
    fields |= {"role": role, "days": days, "token": made.text}
    click.echo(json.dumps(fields) if as_json else made.text)


@token.command("list")
@common
@click.option("--pool", help="Only those of this pool.")
def list_tokens(config: Path | None, database: str | None, as_json: bool, pool: str | None) -> None:
    """List the tokens, without their secrets."""
    from localmem_hub.system import SystemClock

    now_ms = SystemClock().now_ms()
    store = open_store(read_settings(config, database=database))
    try:
        records = store.tokens.list(pool)
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps({"tokens": [vars(record) for record in records]}))
        return
    for record in records:
        device = record.device or "no device yet"
        state = _state(record, now_ms)
        click.echo(f"{record.id}  {record.pool}  {record.role}  {device}  {state}")


def _state(record: TokenRecord, now_ms: int) -> str:
    if record.revoked_ms is not None:
        return "revoked"
    expires_ms = record.expires_ms
    if expires_ms is not None and now_ms >= expires_ms:
        return f"expired {when(expires_ms)}"
    seen = f"seen {when(record.last_seen_ms)}"
    return seen if expires_ms is None else f"{seen}  expires {when(expires_ms)}"


@token.command("revoke")
@common
@click.argument("token_id", metavar="ID")
def revoke_token(config: Path | None, database: str | None, as_json: bool, token_id: str) -> None:
    """End a token. A running hub drops its connections within a second."""
    from localmem_hub.system import SystemClock

    settings = read_settings(config, database=database)
    store = open_store(settings)
    try:
        with auditing(settings) as audit:
            known = store.tokens.revoke(token_id, SystemClock().now_ms())
            if known:
                audit.note("token_revoked", token=token_id)
    finally:
        store.close()
    if not known:
        raise ConfigError(f"id: there is no token {token_id[:40]!r}; see `localmem-hub token list`")
    click.echo(json.dumps({"id": token_id, "revoked": True}) if as_json else f"{token_id} revoked")


def main() -> None:
    """Run the command line; the process ends with its exit code."""
    as_json = "--json" in sys.argv[1:]
    try:
        code = group.main(prog_name="localmem-hub", standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _complain(_usage(error), "usage", as_json)
        sys.exit(error.exit_code)
    except HubError as error:
        _complain(str(error), error.code, as_json)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: click.ClickException) -> str:
    if isinstance(error, click.NoSuchOption) and error.option_name == "--json":
        command = error.ctx.command_path if error.ctx else "localmem-hub"
        return f"--json goes after a command; see: {command} --help"
    return error.format_message()


def _complain(message: str, code: str, as_json: bool) -> None:
    line = " ".join(message.split())
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": line, "field": None}}))
    else:
        click.echo(f"localmem-hub: {line}", err=True)
