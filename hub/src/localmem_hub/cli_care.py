"""The commands that keep a database in order: quarantine and compact. A hub may be serving meanwhile."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import click

from localmem_hub.cli_options import common, open_store, read_settings, when
from localmem_hub.errors import ConfigError, HubError


@click.group()
def quarantine() -> None:
    """Look at updates that were refused, and let them go."""


@quarantine.command("list")
@common
@click.option("--pool", help="Only those of this pool.")
def list_quarantine(
    config: Path | None, database: str | None, as_json: bool, pool: str | None
) -> None:
    """List the updates that were refused: from whom, and why."""
    store = open_store(read_settings(config, database=database))
    try:
        records = store.quarantine.list(pool)
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps({"quarantine": [vars(record) for record in records]}))
        return
    for one in records:
        said = f"{one.size} bytes from {one.device}  {when(one.at_ms)}  {one.reason}"
        click.echo(f"{one.id}  {one.pool}  {said}")


@quarantine.command("show")
@common
@click.argument("number", metavar="ID", type=int)
@click.option("--output", type=click.Path(path_type=Path), help="Write the bytes to this file.")
def show_quarantine(
    config: Path | None, database: str | None, as_json: bool, number: int, output: Path | None
) -> None:
    """Show one refused update, and its bytes: in hex, in base64 with --json, or into a file."""
    store = open_store(read_settings(config, database=database))
    try:
        found = store.quarantine.get(number)
    finally:
        store.close()
    if found is None:
        raise ConfigError(f"id: there is no {number}; see `localmem-hub quarantine list`")
    record, data = found
    fields: dict[str, object] = vars(record)
    if output is not None:
        try:
            with output.open("xb") as file:
                file.write(data)
        except OSError as error:
            raise ConfigError(f"output: cannot write {output}: {error.strerror}") from None
        fields = fields | {"output": str(output)}
    else:
        fields = fields | {"bytes": base64.b64encode(data).decode()}
    if as_json:
        click.echo(json.dumps(fields))
        return
    for name in ("id", "pool", "device", "reason", "size"):
        click.echo(f"{name}: {fields[name]}")
    click.echo(f"refused: {when(record.at_ms)}")
    click.echo(data.hex() if output is None else f"written to {output}")


@quarantine.command("drop")
@common
@click.argument("numbers", metavar="[ID]...", type=int, nargs=-1)
@click.option("--pool", help="All those of this pool.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
def drop_quarantine(
    config: Path | None,
    database: str | None,
    as_json: bool,
    numbers: tuple[int, ...],
    pool: str | None,
    everything: bool,
) -> None:
    """Let refused updates go. None can be put into its pool: its sender says it again."""
    if bool(numbers) + (pool is not None) + everything != 1:
        raise ConfigError("id: name some by their ids, or say --pool POOL or --all")
    store = open_store(read_settings(config, database=database))
    try:
        gone = store.quarantine.drop(numbers) if numbers else store.quarantine.drop_all(pool)
        wiped = store.erase(None)
    finally:
        store.close()
    if gone < len(set(numbers)):
        raise ConfigError(
            f"id: {gone} of these were there, and are gone; see `localmem-hub quarantine list`"
        )
    click.echo(
        json.dumps({"dropped": gone, "log_emptied": wiped}) if as_json else f"{gone} dropped"
    )


@click.command()
@common
@click.argument("names", metavar="[ROOM]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every room that has something to compact.")
def compact(
    config: Path | None,
    database: str | None,
    as_json: bool,
    names: tuple[str, ...],
    everything: bool,
) -> None:
    """Put one snapshot in the place of a room's updates; hubs do so by themselves, too.

    A pool with a roster has a room for each epoch, POOL.EPOCH, and its id stands for all of them.
    Plain rooms are left alone: only the hub that serves them reads them.
    """
    from localmem_hub.compaction import compact_room

    if bool(names) == everything:
        raise ConfigError("room: name some, or say --all")
    store = open_store(read_settings(config, database=database))
    told: list[dict[str, object]] = []
    try:
        chosen = store.pools.rooms(names or None)
        for room, kind in chosen.items():
            fields: dict[str, object] = {"room": room}
            try:
                fields["state"] = "plain" if kind == "plain" else compact_room(store, room)
            except HubError as error:
                fields |= {"state": "failed", "message": str(error)}
            told.append(fields)
        wiped = store.erase(None)
    finally:
        store.close()
    failed = sum(one["state"] == "failed" for one in told)
    if as_json:
        click.echo(json.dumps({"rooms": told, "failed": failed, "log_emptied": wiped}))
    else:
        for one in told:
            reason = f": {one['message']}" if "message" in one else ""
            click.echo(f"{one['room']}  {one['state']}{reason}")
    if failed:
        sys.exit(1)
