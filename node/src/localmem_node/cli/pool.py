"""`localmem pool …`: groups of devices that remember together."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any
from urllib.parse import quote

import click

from localmem_node.cli.daemon import pool_line
from localmem_node.cli.output import escape, json_option, print_fields, print_json
from localmem_node.cli.pairing import (
    ROLES,
    WAIT_S,
    invite_device,
    join_pool,
    label_option,
    yes_option,
)
from localmem_node.cli.selecting import project_ids
from localmem_node.client import DaemonClient
from localmem_node.sync.pool_files import POOLS_MAX

invitation_option = click.option(
    "--invitation", metavar="lmi_…", help="What the hub's operator gave you."
)
everything_option = click.option(
    "--everything", is_flag=True, help="Share every project of this device there."
)


ON_OFF = ("off", "on")
PADDINGS = ("none", "padme", "powers")


def make_pool(
    name: str, hub: str, invitation: str | None, label: str, *, everything: bool, as_json: bool
) -> None:
    """Make a pool at a hub, and print what its owner has to know."""
    body = {
        "name": name, "hub": hub, "invitation": invitation, "everything": everything, "label": label,
    }  # fmt: skip
    made = _call("POST", "/v1/pools", body)
    if as_json:
        print_json(made)
        return
    click.echo(f"Made pool {escape(name)} at {escape(hub)} ({made['pool'][:8]}).")
    click.echo("Its recovery phrase; write it down, it is not shown again:\n")
    words = made["phrase"].split()
    for start in range(0, len(words), 6):
        numbered = (
            f"{place:2} {word:<9}" for place, word in enumerate(words[start : start + 6], start + 1)
        )
        click.echo("    " + " ".join(numbered).rstrip())
    click.echo("\nAdd a device of yours: localmem pair")
    if not everything:
        click.echo(f"Share a project: localmem pool share {escape(name)} --project .")


@click.group()
def pool() -> None:
    """Devices that remember together: yours, or a team's.

    Nothing of this device enters a pool before you share it: localmem pool share.
    """


@pool.command()
@click.argument("name")
@click.option("--hub", required=True, metavar="URL", help="Such as https://hub.example.org.")
@invitation_option
@everything_option
@label_option
@json_option
def create(
    name: str, hub: str, invitation: str | None, everything: bool, label: str, as_json: bool
) -> None:
    """Make a pool, with this device as its owner.

    Its recovery phrase is printed once and kept nowhere. Write it down: with it you get into the pool
    when every device is lost.
    """
    make_pool(name, hub, invitation, label, everything=everything, as_json=as_json)


@pool.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the pools of this device."""
    found = _call("GET", "/v1/pools")
    if as_json:
        print_json(found)
        return
    for one in found["pools"]:
        sending = ", ".join(f"{name} {value}" for name, value in sending_fields(one).items())
        click.echo(f"{escape(one['pool'])}  {one['id'][:8]}  {escape(pool_line(one))}; {sending}")
    for problem in found["damaged"].values():
        click.echo(f"Not in use: {escape(problem)}", err=True)
    if not found["pools"]:
        click.echo("none; make one: localmem pool create NAME --hub URL")


@pool.command()
@click.argument("pool_", metavar="POOL")
@json_option
def members(pool_: str, as_json: bool) -> None:
    """Show who is in a pool, and with which fingerprints.

    The state is the same on all devices that are in sync: where it is not, the hub does not show them
    the same.
    """
    found = _call("GET", f"/v1/pools/{quote(pool_, safe='')}/members")
    if as_json:
        print_json(found)
        return
    for one in found["members"]:
        this = "  (this device)" if one["this"] else ""
        click.echo(f"{one['device']}  {one['role']:<6}  {escape(one['label'])}{this}")
        click.echo(f"    {one['fingerprint']}")
    if found["state_code"]:
        click.echo(f"state of epoch {found['epoch']} here: {found['state_code']}")
    print_fields(sending_fields(found))
    if found["stale"]:
        click.echo(
            "Somebody left who knows the current key; an owner should run: localmem pool rotate"
        )
    if found["problem"]:
        click.echo(f"As it was known last: {escape(found['problem'])}", err=True)


@pool.command()
@click.argument("pool_", metavar="POOL")
@click.option("--role", type=click.Choice(ROLES), default="member", show_default=True)
@label_option
@yes_option
@json_option
def invite(pool_: str, role: str, label: str, yes: bool, as_json: bool) -> None:
    """Let a device into a pool: shows a code to type there."""
    with DaemonClient(answer_s=WAIT_S + 30) as client:
        invite_device(client, pool_, role, label, yes=yes, as_json=as_json)


@pool.command()
@click.argument("code")
@click.option(
    "--hub", required=True, metavar="URL", help="The address that the other device shows."
)
@everything_option
@label_option
@yes_option
@json_option
def join(code: str, hub: str, everything: bool, label: str, yes: bool, as_json: bool) -> None:
    """Enter a pool with a code that a device in it shows."""
    join_pool(code, hub, label, everything=everything, yes=yes, as_json=as_json)


@pool.command()
@click.argument("pool_", metavar="POOL")
@click.argument("device")
@json_option
def remove(pool_: str, device: str, as_json: bool) -> None:
    """Send a device away, and begin an epoch whose key it does not get.

    What it received before it can go on to read; what is recorded once the others know of this it
    cannot.
    """
    done = _call(
        "POST", f"/v1/pools/{quote(pool_, safe='')}/members", {"device": device, "role": None}
    )
    print_json(done) if as_json else click.echo(f"Removed. Epoch {done['epoch']} begins.")


@pool.command()
@click.argument("pool_", metavar="POOL")
@click.argument("device")
@click.argument("role", type=click.Choice(ROLES))
@json_option
def role(pool_: str, device: str, role: str, as_json: bool) -> None:
    """Give a member another role."""
    done = _call(
        "POST", f"/v1/pools/{quote(pool_, safe='')}/members", {"device": device, "role": role}
    )
    print_json(done) if as_json else click.echo(f"{done['device']} is a {role} now.")


@pool.command("set")
@click.argument("pool_", metavar="POOL")
@click.option(
    "--references",
    type=click.Choice(ON_OFF),
    help="Leave text that is in a commit at home, and send where it is.",
)
@click.option(
    "--padding",
    type=click.Choice(PADDINGS),
    help="Round sizes up, so that they say less: padme by up to 12 %, powers by up to 100 %.",
)
@json_option
def set_(pool_: str, references: str | None, padding: str | None, as_json: bool) -> None:
    """Decide how what this device shares travels; without an option show it."""
    body: dict[str, Any] = {}
    if references is not None:
        body["references"] = references == "on"
    if padding is not None:
        body["padding"] = padding
    found = _call("POST", f"/v1/pools/{quote(pool_, safe='')}/sending", body)
    if as_json:
        print_json(found)
    else:
        print_fields(sending_fields(found))


@pool.command()
@click.argument("pool_", metavar="POOL")
@json_option
def rotate(pool_: str, as_json: bool) -> None:
    """Begin a new epoch with a new key, for the same members."""
    done = _call("POST", f"/v1/pools/{quote(pool_, safe='')}/rotate", {})
    print_json(done) if as_json else click.echo(f"Epoch {done['epoch']} begins.")


@pool.command()
@click.argument("pool_", metavar="POOL")
@click.option("--force", is_flag=True, help="Forget it here even if the hub cannot be told.")
@json_option
def leave(pool_: str, force: bool, as_json: bool) -> None:
    """Be a member no more. What was received stays in this device's store."""
    done = _call("POST", f"/v1/pools/{quote(pool_, safe='')}/leave", {"force": force})
    print_json(done) if as_json else click.echo("Left.")


@pool.command()
@click.option("--hub", required=True, metavar="URL")
@click.option(
    "--lost", multiple=True, metavar="DEVICE", help="A lost device (id or name), to be removed too."
)
@label_option
@json_option
def recover(hub: str, lost: tuple[str, ...], label: str, as_json: bool) -> None:
    """Get into your pools with the recovery phrase. It is asked for, or read from standard input."""
    phrase = (
        click.prompt("Recovery phrase", hide_input=True, err=True)
        if sys.stdin.isatty()
        else sys.stdin.read(4096)
    )
    body = {"hub": hub, "phrase": phrase.strip(), "lost": list(lost), "label": label}
    done = _call("POST", "/v1/pools/recover", body)
    if as_json:
        print_json(done)
        return
    for one in done["pools"]:
        click.echo(f"Entered {escape(one['name'])} ({one['pool'][:8]}). Try: localmem sync")
    if done["left_out"]:
        left = ", ".join(done["left_out"])
        click.echo(
            f"Left out, since a device is in at most {POOLS_MAX} pools: {left}. Leave one "
            "(localmem pool leave), then recover again.",
            err=True,
        )


@pool.command()
@click.argument("pool_", metavar="POOL")
@click.option(
    "--project", metavar="[PATH]", is_flag=False, flag_value=".", help="A folder, or an id."
)
@click.option("--everything", is_flag=True, help="Every project, but those kept out.")
@click.option("--preview", is_flag=True, help="Only show what would be shared.")
@json_option
def share(pool_: str, project: str | None, everything: bool, preview: bool, as_json: bool) -> None:
    """Let what is recorded here in a project into a pool; without an option show what is shared."""
    _share(
        pool_,
        project,
        everything=True if everything else None,
        shared=True,
        preview=preview,
        as_json=as_json,
    )


@pool.command()
@click.argument("pool_", metavar="POOL")
@click.option(
    "--project", metavar="[PATH]", is_flag=False, flag_value=".", help="A folder, or an id."
)
@click.option("--everything", is_flag=True, help="Share nothing from now on.")
@click.option("--preview", is_flag=True, help="Only show what would be shared then.")
@json_option
def unshare(
    pool_: str, project: str | None, everything: bool, preview: bool, as_json: bool
) -> None:
    """Keep a project out of a pool from now on. What is there already stays."""
    if project is None and not everything:
        raise click.UsageError("give --project or --everything")
    _share(
        pool_,
        project,
        everything=False if everything else None,
        shared=False,
        preview=preview,
        as_json=as_json,
    )


def _share(
    pool_: str,
    project: str | None,
    *,
    everything: bool | None,
    shared: bool,
    preview: bool,
    as_json: bool,
) -> None:
    if project is not None and everything is not None:
        raise click.UsageError("--project is given beside --everything; choose one")
    body: dict[str, Any] = {
        "shared": shared,
        "preview": preview or (project is None and everything is None),
    }
    if project is not None:
        body |= {"projects": project_ids(project), "name": project}
    if everything is not None:
        body["everything"] = everything
    found = _call("POST", f"/v1/pools/{quote(pool_, safe='')}/share", body)
    if as_json:
        print_json(found)
        return
    if not found["shared"]:
        click.echo("Nothing of what is here is shared.")
    for one in found["shared"]:
        named = found["rule"]["projects"].get(one["project"] or "", "")
        when = datetime.fromtimestamp(one["newest_ms"] / 1000).astimezone()
        fields = {
            "project": f"{one['project'] or '(none)'}  {named}".rstrip(),
            "events": f"{one['events']:,}, {one['bytes']:,} bytes of text, the newest of {when:%Y-%m-%d %H:%M}",
        }
        print_fields(fields)


def sending_fields(found: dict[str, Any]) -> dict[str, str]:
    """How what is shared travels, for people."""
    return {"references": ON_OFF[found["references"]], "padding": found["padding"]}


def _call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    with DaemonClient(answer_s=120) as client:
        answer: dict[str, Any] = client.call(method, path, body)
        return answer
