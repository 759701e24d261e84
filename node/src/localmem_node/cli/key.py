"""`localmem key`: where it is, a new one, and a code to recover it by."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from localmem_node.cli.output import escape, json_option, print_fields, print_json
from localmem_node.cli.progress import with_progress
from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.secret_text import secret_text

NEW_PASSPHRASE = "LOCALMEM_NEW_PASSPHRASE"  # noqa: S105  the name of a variable


@click.group()
def key() -> None:
    """The key that everything is sealed under."""


@key.command("show-location")
@json_option
def show_location(as_json: bool) -> None:
    """Say where the key is kept, and how. Never shows it."""
    from localmem_node.store.keys import choose_keystore

    settings = load_settings(os.environ)
    keystore = choose_keystore(passphrase=settings.passphrase, key_file=settings.key_file)
    fields = {"key": keystore.location, "store": str(settings.store_path)}
    print_json(fields) if as_json else print_fields(fields)


@key.command()
@click.option("--passphrase", "passphrase", is_flag=True, help="Keep it by another passphrase.")
@click.option("--key-file", type=click.Path(path_type=Path), help="Keep it in this file.")
@click.option("--keychain", is_flag=True, help="Keep it in the keychain.")
@json_option
def rotate(passphrase: bool, key_file: Path | None, keychain: bool, as_json: bool) -> None:
    """Seal everything under a new key, while the daemon goes on.

    Without an option it is kept where the old one was. A new passphrase comes from
    LOCALMEM_NEW_PASSPHRASE or LOCALMEM_NEW_PASSPHRASE_FILE, or is asked for.
    """
    body: dict[str, Any] = {}
    if passphrase:
        body["passphrase"] = _new_passphrase()
    if key_file is not None:
        body["key_file"] = str(key_file.absolute())
    if keychain:
        body["keychain"] = True
    if len(body) > 1:
        raise click.UsageError("choose one of --passphrase, --key-file and --keychain")
    with DaemonClient(answer_s=None) as client:
        answer = with_progress(client, "sealing", lambda: client.call("POST", "/v1/rotate", body))
    if as_json:
        print_json(answer)
        return
    click.echo(f"everything is sealed under a new key, {escape(answer['key'])}")
    if body:
        click.echo(_advice(body))


@key.command("export-recovery")
@json_option
def export_recovery(as_json: bool) -> None:
    """Make a code that opens the store when its key is lost. Write it down; the last one is void."""
    with DaemonClient(answer_s=None) as client:
        answer = with_progress(client, "sealing", lambda: client.call("POST", "/v1/recovery", {}))
    if as_json:
        print_json(answer)
    else:
        click.echo(answer["code"])
        click.echo("It opens the store: keep it on paper, or where nobody else reads.", err=True)


@key.command()
@json_option
def recover(as_json: bool) -> None:
    """Open the store by its recovery code, from standard input, and keep its key as set up now."""
    from localmem_node.store.keys import choose_keystore
    from localmem_node.store.opening import recover_event_store
    from localmem_node.system import SystemRandom

    settings = load_settings(os.environ)
    keystore = choose_keystore(passphrase=settings.passphrase, key_file=settings.key_file)
    code = click.prompt("Recovery code", err=True) if sys.stdin.isatty() else sys.stdin.read(1000)
    DaemonClient(start=False).stop()
    store = recover_event_store(settings.store_path, code, keystore, SystemRandom())
    try:
        events = store.stats().events
    finally:
        store.close()
    if as_json:
        print_json({"events": events, "key": keystore.location})
    else:
        click.echo(f"{events} events; the key is kept by {escape(keystore.location)} now")


def _new_passphrase() -> str:
    given = secret_text(os.environ, NEW_PASSPHRASE, f"{NEW_PASSPHRASE}_FILE")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise click.UsageError(f"set {NEW_PASSPHRASE} or {NEW_PASSPHRASE}_FILE")
    asked = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return str(asked)


def _advice(body: dict[str, Any]) -> str:
    if "passphrase" in body:
        return "set LOCALMEM_PASSPHRASE to the new one before the daemon starts again"
    if "key_file" in body:
        return f"set store.key_file to {body['key_file']!r} in config.toml, and no passphrase"
    return "unset LOCALMEM_PASSPHRASE and store.key_file before the daemon starts again"
