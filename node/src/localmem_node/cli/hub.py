"""`localmem hub …`: the hub that a device's memory goes through."""

from __future__ import annotations

import click

from localmem_node.cli.output import json_option
from localmem_node.cli.pairing import label_option
from localmem_node.cli.pool import invitation_option, make_pool


@click.group()
def hub() -> None:
    """Where your devices meet: your own hub, or another's. None can read what it keeps."""


@hub.command()
@click.argument("url")
@click.option("--pool", "name", default="home", show_default=True, help="What it is called here.")
@invitation_option
@label_option
@json_option
def add(url: str, name: str, invitation: str | None, label: str, as_json: bool) -> None:
    """Use a hub for all of your devices: make a pool there that has every project of this device.

    Its recovery phrase is printed once and kept nowhere. The next device of yours comes in by
    `localmem pair`.
    """
    make_pool(name, url, invitation, label, everything=True, as_json=as_json)
