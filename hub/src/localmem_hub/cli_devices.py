"""The command `localmem-hub device`: who is in a pool, and shutting out who has tokens.

A device is known to a hub in two ways: a roster, signed by its members, names it with its keys; or
tokens of the operator's are bound to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localmem_hub.cli_options import auditing, common, open_store, read_settings, when
from localmem_hub.errors import ConfigError
from localmem_protocol.events import is_device_id

if TYPE_CHECKING:
    from localmem_hub.blobs.store import BlobStore
    from localmem_hub.store import SqlStore
    from localmem_hub.tokens import TokenRecord
    from localmem_protocol.roster import Roster


@click.group()
def device() -> None:
    """Look at the devices of pools, and shut out those that have tokens."""


@device.command("list")
@common
@click.argument("pool_id", metavar="POOL")
def list_devices(config: Path | None, database: str | None, as_json: bool, pool_id: str) -> None:
    """List the devices of a pool, those that were removed as well.

    Only the members of a roster can add or remove its devices; a hub has no key.
    """
    store = open_store(read_settings(config, database=database))
    try:
        roster, devices = _devices(store, pool_id)
    finally:
        store.close()
    if as_json:
        epoch = None if roster is None else roster.epoch
        click.echo(json.dumps({"pool": pool_id, "epoch": epoch, "devices": devices}))
        return
    for one in devices:
        if roster is not None:
            click.echo("{device}  {role}  since epoch {since_epoch}  {fingerprint}".format(**one))
        else:
            click.echo("{device}  {role}  {tokens} tokens  seen {seen}".format(**one))


@device.command("show")
@common
@click.argument("pool_id", metavar="POOL")
@click.argument("device_id", metavar="DEVICE")
def show_device(
    config: Path | None, database: str | None, as_json: bool, pool_id: str, device_id: str
) -> None:
    """Show one device: its role, its keys or tokens, and what of it was refused."""
    store = open_store(read_settings(config, database=database))
    try:
        fields = _find(store, pool_id, device_id)
        records = [one for one in store.tokens.list(pool_id) if one.device == device_id]
        rooms = list(store.pools.rooms([pool_id]))
        refused = [
            one.id
            for room in rooms
            for one in store.quarantine.list(room)
            if one.device == device_id
        ]
    finally:
        store.close()
    told = fields | {
        "pool": pool_id,
        "tokens": [vars(record) for record in records],
        "quarantined": refused,
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    for name, value in fields.items():
        if name != "tokens":
            click.echo(f"{name}: {value}")
    for record in records:
        click.echo(f"token: {record.id}  {_state(record)}")
    click.echo(f"refused updates: {', '.join(map(str, refused)) or 'none'}")


@device.command("revoke")
@common
@click.argument("pool_id", metavar="POOL")
@click.argument("device_id", metavar="DEVICE")
def revoke_device(
    config: Path | None, database: str | None, as_json: bool, pool_id: str, device_id: str
) -> None:
    """Revoke every token of a device in a pool.

    A device in a roster is removed by an owner, on a device of the pool: `localmem pool remove`.
    """
    from localmem_hub.system import SystemClock

    settings = read_settings(config, database=database)
    store = open_store(settings)
    try:
        if store.pools.roster(pool_id) is not None:
            raise ConfigError(
                "pool: it has a roster, which its members sign; an owner removes the device there"
            )
        _find(store, pool_id, device_id)
        mine = [one for one in store.tokens.list(pool_id) if one.device == device_id]
        ended = [one.id for one in mine if one.revoked_ms is None]
        with auditing(settings) as audit:
            for token in ended:
                if store.tokens.revoke(token, SystemClock().now_ms()):
                    audit.note("token_revoked", token=token, pool=pool_id, device=device_id)
    finally:
        store.close()
    fields = {"pool": pool_id, "device": device_id, "revoked": ended}
    click.echo(json.dumps(fields) if as_json else f"{len(ended)} tokens revoked")


def _devices(
    store: SqlStore | BlobStore, pool: str
) -> tuple[Roster | None, list[dict[str, object]]]:
    """Every device of a pool, in order. Raises ConfigError when there is no such pool."""
    roster = store.pools.roster(pool)
    if roster is None:
        store.pools.rooms([pool])
        return None, _with_tokens(store.tokens.list(pool))
    known = [(one, one.role) for one in roster.members.values()]
    gone = [(one, "removed") for one in roster.former.values()]
    fields: list[dict[str, object]] = [
        {
            "device": one.device,
            "role": role,
            "since_epoch": one.since_epoch,
            "fingerprint": one.keys.fingerprint(),
        }
        for one, role in sorted([*known, *gone], key=lambda found: found[0].device)
    ]
    return roster, fields


def _with_tokens(records: list[TokenRecord]) -> list[dict[str, object]]:
    """The devices that these tokens are bound to; `role` is the most that a valid one allows."""
    mine: dict[str, list[TokenRecord]] = {}
    for record in records:
        if record.device is not None:
            mine.setdefault(record.device, []).append(record)
    return [
        {
            "device": device,
            "role": max((one.role for one in held if one.revoked_ms is None), default="revoked"),
            "tokens": sum(one.revoked_ms is None for one in held),
            "seen": when(max((one.last_seen_ms or 0 for one in held), default=0) or None),
        }
        for device, held in sorted(mine.items())
    ]


def _find(store: SqlStore | BlobStore, pool: str, device: str) -> dict[str, object]:
    if not is_device_id(device):
        raise ConfigError("device: must be 16 lower-case hex digits")
    for one in _devices(store, pool)[1]:
        if one["device"] == device:
            return one
    raise ConfigError(
        f"device: there is no {device} in {pool[:64]!r}; see `localmem-hub device list`"
    )


def _state(record: TokenRecord) -> str:
    if record.revoked_ms is not None:
        return f"revoked {when(record.revoked_ms)}"
    return f"{record.role}  seen {when(record.last_seen_ms)}"
