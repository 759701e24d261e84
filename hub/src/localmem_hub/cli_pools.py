"""The commands of pools: invite, invitation and pool."""

from __future__ import annotations

import json
from pathlib import Path

import click

from localmem_hub.cli_options import auditing, common, open_store, read_settings, when
from localmem_hub.errors import ConfigError
from localmem_protocol.access import is_pool_id


@click.command()
@common
@click.option("--uses", type=int, default=1, show_default=True, help="How many pools it is for.")
@click.option("--days", type=int, default=7, show_default=True, help="How long it is good for.")
def invite(config: Path | None, database: str | None, as_json: bool, uses: int, days: int) -> None:
    """Make an invitation to create a pool, and print its code: it is not shown again."""
    from localmem_hub.invitations import name_of
    from localmem_hub.system import SystemClock, SystemRandom

    settings = read_settings(config, database=database)
    store = open_store(settings)
    try:
        with auditing(settings) as audit:
            code = store.access.invite(uses, days, SystemRandom(), SystemClock().now_ms())
            audit.note("invitation_created", invitation=name_of(code), uses=uses, days=days)
    finally:
        store.close()
    fields = {"invitation": code, "uses": uses, "days": days}
    click.echo(json.dumps(fields) if as_json else code)


@click.group()
def invitation() -> None:
    """Look at invitations that may still be used, and end them."""


@invitation.command("list")
@common
def list_invitations(config: Path | None, database: str | None, as_json: bool) -> None:
    """List the invitations. Their codes are kept nowhere."""
    from localmem_hub.system import SystemClock

    store = open_store(read_settings(config, database=database))
    try:
        found = store.access.invitations(SystemClock().now_ms())
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps({"invitations": [vars(one) for one in found]}))
        return
    for one in found:
        made, until = when(one.created_ms), when(one.expires_ms)
        click.echo(f"{one.name}  {one.uses_left} uses left  made {made}  good until {until}")


@invitation.command("revoke")
@common
@click.argument("name", metavar="NAME")
def revoke_invitation(config: Path | None, database: str | None, as_json: bool, name: str) -> None:
    """End an invitation, by the name that `list` prints or by its code."""
    from localmem_hub.invitations import name_of

    settings, name = read_settings(config, database=database), name_of(name)
    store = open_store(settings)
    try:
        if not store.access.disinvite(name):
            raise ConfigError(
                f"name: there is no {name[:64]!r}; see `localmem-hub invitation list`"
            )
        with auditing(settings) as audit:
            audit.note("invitation_revoked", invitation=name)
    finally:
        store.close()
    click.echo(json.dumps({"revoked": name}) if as_json else f"invitation {name} is of no use now")


@click.group()
def pool() -> None:
    """Look at pools, and remove them."""


@pool.command("list")
@common
def list_pools(config: Path | None, database: str | None, as_json: bool) -> None:
    """List the pools."""
    store = open_store(read_settings(config, database=database))
    try:
        records = store.pools.list()
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps({"pools": [vars(record) for record in records]}))
        return
    for record in records:
        tokens = "plain room" if record.kind == "plain" else "device tokens"
        kind = f"roster of {record.entries}" if record.entries else tokens
        made, size = when(record.created_ms), record.bytes
        click.echo(f"{record.pool}  epoch {record.epoch}  {kind}  {size} bytes  made {made}")


@pool.command("remove")
@common
@click.argument("pool_id", metavar="POOL")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_pool(
    config: Path | None, database: str | None, as_json: bool, pool_id: str, yes: bool
) -> None:
    """Remove a pool and everything in it. A running hub sends its devices away within a second.

    The devices keep what they have.
    """
    if as_json and not yes:
        raise ConfigError("yes: with --json nobody can be asked; say --yes")
    settings = read_settings(config, database=database)
    store = open_store(settings)
    try:
        if not yes:
            click.confirm(f"Remove pool {pool_id[:64]} and everything in it?", abort=True, err=True)
        with auditing(settings) as audit:
            known = store.pools.remove(pool_id)
            if known:
                audit.note("pool_removed", pool=pool_id)
    finally:
        store.close()
    if not known:
        raise ConfigError(f"pool: there is no {pool_id[:64]!r}; see `localmem-hub pool list`")
    click.echo(json.dumps({"pool": pool_id, "removed": True}) if as_json else f"{pool_id} removed")


@pool.command("epochs")
@common
@click.argument("pool_id", metavar="POOL")
def list_epochs(config: Path | None, database: str | None, as_json: bool, pool_id: str) -> None:
    """List the epochs of a pool that are over, and how many members have read each."""
    store = open_store(read_settings(config, database=database))
    try:
        roster = store.pools.roster(pool_id)
        epochs = store.epochs.past(pool_id) if roster is not None else []
    finally:
        store.close()
    if roster is None:
        raise ConfigError(f"pool: {pool_id[:64]!r} has no roster; see `localmem-hub pool list`")
    fields = [
        {
            "epoch": one.epoch,
            "over_ms": one.over_ms,
            "dropped_ms": one.dropped_ms,
            "read_by": len(one.readers & roster.members.keys()),
            "members": len(roster.members),
        }
        for one in epochs
    ]
    if as_json:
        click.echo(json.dumps({"pool": pool_id, "epoch": roster.epoch, "past": fields}))
        return
    for one in epochs:
        read = f"read by {len(one.readers & roster.members.keys())} of {len(roster.members)}"
        state = read if one.dropped_ms is None else f"dropped {when(one.dropped_ms)}"
        click.echo(f"epoch {one.epoch}  over {when(one.over_ms)}  {state}")


@pool.command("drop-epoch")
@common
@click.argument("pool_id", metavar="POOL")
@click.argument("epoch", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop_epoch(
    config: Path | None, database: str | None, as_json: bool, pool_id: str, epoch: int, yes: bool
) -> None:
    """Drop what is stored of an epoch that is over, whoever has not read it.

    What such a device missed there, and nobody else sends again, it does not get.
    """
    from localmem_hub.system import SystemClock

    if as_json and not yes:
        raise ConfigError("yes: with --json nobody can be asked; say --yes")
    settings = read_settings(config, database=database)
    store = open_store(settings)
    try:
        if not yes:
            click.confirm(f"Drop epoch {epoch} of pool {pool_id[:64]}?", abort=True, err=True)
        with auditing(settings) as audit:
            now_ms = SystemClock().now_ms()
            dropped = is_pool_id(pool_id) and store.epochs.drop(pool_id, epoch, now_ms)
            if dropped:
                audit.note("epoch_dropped", pool=pool_id, epoch=epoch)
        wiped = dropped and store.erase(None)
    finally:
        store.close()
    if not dropped:
        raise ConfigError(
            f"epoch: {epoch} of {pool_id[:64]!r} is not over, or dropped; "
            "see `localmem-hub pool epochs`"
        )
    fields = {"pool": pool_id, "epoch": epoch, "dropped": True, "log_emptied": wiped}
    click.echo(json.dumps(fields) if as_json else f"epoch {epoch} of {pool_id} dropped")
