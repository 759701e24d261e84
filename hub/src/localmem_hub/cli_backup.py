"""The commands `backup` and `restore`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from localmem_hub.cli_options import auditing, common, read_settings
from localmem_hub.errors import ConfigError


@click.command()
@common
@click.argument("destination", type=click.Path(path_type=Path))
def backup(config: Path | None, database: str | None, as_json: bool, destination: Path) -> None:
    """Copy the SQLite database to a file, whether a hub is running or not.

    The file is for its owner alone, and replaces another one of that name. For PostgreSQL use pg_dump.
    """
    from localmem_hub.backup import make_backup

    made = make_backup(read_settings(config, database=database).database, destination)
    fields = {
        "backup": str(made.path),
        "bytes": made.bytes,
        "revision": made.revision,
        "pools": made.pools,
    }
    text = f"{made.path}: {made.pools} pools, {made.bytes} bytes"
    click.echo(json.dumps(fields) if as_json else text)


@click.command()
@common
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(
    config: Path | None, database: str | None, as_json: bool, file: Path | None, yes: bool
) -> None:
    """Put the SQLite database back to a backup, and void every token and invitation in it.

    Stop the hub first. The database of before is kept beside it. Without FILE the database was put back
    by other means, such as pg_restore: then what was given out is voided where it is.
    """
    from localmem_hub.backup import put_back, void_in_place
    from localmem_hub.system import SystemClock

    settings, now_ms = read_settings(config, database=database), SystemClock().now_ms()
    if file is None and not yes:
        if as_json:
            raise ConfigError("yes: with --json nobody can be asked; say --yes")
        click.confirm("Void all tokens and invitations of this database?", abort=True, err=True)
    kept = None
    with auditing(settings) as audit:
        if file is None:
            voided = void_in_place(settings.database, now_ms)
        else:
            voided, kept = put_back(settings.database, file, now_ms)
        audit.note(
            "restored",
            file=None if file is None else str(file),
            tokens=voided.tokens,
            invitations=voided.invitations,
        )
    fields = {
        "restored": None if file is None else str(file),
        "kept": None if kept is None else str(kept),
        "tokens_voided": voided.tokens,
        "invitations_voided": voided.invitations,
    }
    if as_json:
        click.echo(json.dumps(fields))
        return
    if kept is not None:
        click.echo(f"what was there is {kept} now")
    click.echo(
        f"{voided.tokens} device tokens and {voided.invitations} invitations are void; "
        "devices that a roster names come in by key"
    )
