"""`localmem pair`, and the part of it that `localmem pool invite` and `join` share: two screens, one code."""

from __future__ import annotations

import sys
from typing import Any, Final
from urllib.parse import quote

import click

from localmem_node.cli.output import escape, json_option, print_json
from localmem_node.client import DaemonClient
from localmem_node.errors import SyncError

WAIT_S: Final = 20.0
"""How long one question to the daemon waits for news."""

ROLES: Final = ("owner", "member", "reader")

label_option = click.option("--label", default="", help="What this device is called there.")
yes_option = click.option(
    "--yes", is_flag=True, help="Do not ask whether the fingerprints agree (for scripts)."
)


@click.command()
@click.argument("code", required=False)
@click.option("--hub", metavar="URL", help="The hub that the other device names; with a code.")
@click.option(
    "--pool", help="The pool to let a device into; without a code. Needed if there are several."
)
@click.option("--role", type=click.Choice(ROLES), default="owner", show_default=True)
@label_option
@yes_option
@json_option
def pair(
    code: str | None,
    hub: str | None,
    pool: str | None,
    role: str,
    label: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Add another device of yours: on this one without a code, on the new one with it.

    The code is good for one try within ten minutes. Both screens show fingerprints: compare them.
    """
    if code is not None:
        if hub is None:
            raise click.UsageError("--hub: give the address that the other device shows")
        if pool is not None:
            raise click.UsageError("--pool is chosen on the device that shows the code")
        join_pool(code, hub, label, everything=True, yes=yes, as_json=as_json)
        return
    if hub is not None:
        raise click.UsageError("--hub goes with a code; the pool here knows its hub")
    with DaemonClient(answer_s=WAIT_S + 30) as client:
        pool = pool or _only_pool(client)
        invite_device(client, pool, role, label, yes=yes, as_json=as_json)


def invite_device(
    client: DaemonClient, pool: str, role: str, label: str, *, yes: bool, as_json: bool
) -> None:
    """Show a code, wait for the other device, and let it in once its fingerprint was agreed to."""
    told = client.call(
        "POST", f"/v1/pools/{quote(pool, safe='')}/invite", {"role": role, "label": label}
    )
    code, hub = told["code"], told["hub"]
    command = f"localmem pair {code} --hub {hub}"
    if as_json:
        print_json({"code": code, "hub": hub, "fingerprint": told["fingerprint"]})
    else:
        click.echo("On the other device, within ten minutes:\n")
        click.echo(f"    {command}\n")
        if sys.stdout.isatty():
            _print_qr(command)
        click.echo(f"This device's fingerprint: {told['fingerprint']}")
    _finish(client, told["pairing"], yes=yes, as_json=as_json)


def join_pool(
    code: str, hub: str, label: str, *, everything: bool, yes: bool, as_json: bool
) -> None:
    """Be let into a pool by a code."""
    with DaemonClient(answer_s=WAIT_S + 30) as client:
        body = {"hub": hub, "code": code, "label": label, "everything": everything}
        told = client.call("POST", "/v1/pools/join", body)
        if as_json:
            print_json({"fingerprint": told["fingerprint"]})
        else:
            click.echo(f"This device's fingerprint: {told['fingerprint']}")
        _finish(client, told["pairing"], yes=yes, as_json=as_json)


def _finish(client: DaemonClient, pairing: int, *, yes: bool, as_json: bool) -> None:
    try:
        progress = _until_other_than(client, pairing, "waiting")
        if progress["state"] == "introduced":
            _agree(client, pairing, progress["peer"], yes=yes, as_json=as_json)
            progress = _until_other_than(client, pairing, "introduced")
    except (KeyboardInterrupt, click.Abort):
        client.call("POST", "/v1/pools/pairing/answer", {"pairing": pairing, "agreed": False})
        raise
    if progress["state"] != "done":
        raise SyncError(progress["problem"] or "the pairing failed; begin again")
    if as_json:
        print_json({"paired": progress["peer"]})
    else:
        click.echo(f"Paired with {escape(progress['peer']['label'])}. Try: localmem sync")


def _agree(
    client: DaemonClient, pairing: int, peer: dict[str, Any], *, yes: bool, as_json: bool
) -> None:
    name = escape(f"{peer['label']} ({peer['device']})")
    if not as_json:
        click.echo(f"The other device, {name}: {peer['fingerprint']}")
    agreed = yes
    if not yes:
        if not sys.stdin.isatty():
            client.call("POST", "/v1/pools/pairing/answer", {"pairing": pairing, "agreed": False})
            raise click.UsageError(
                "no terminal to ask at whether the fingerprints agree: add --yes"
            )
        agreed = click.confirm("Does its screen show the same?", err=True)
    client.call("POST", "/v1/pools/pairing/answer", {"pairing": pairing, "agreed": agreed})


def _until_other_than(client: DaemonClient, pairing: int, state: str) -> dict[str, Any]:
    while True:
        body = {"pairing": pairing, "known": state, "wait_s": WAIT_S}
        progress = client.call("POST", "/v1/pools/pairing", body)
        if progress["state"] != state:
            return progress


def _only_pool(client: DaemonClient) -> str:
    pools = client.call("GET", "/v1/pools")["pools"]
    if not pools:
        raise SyncError("there is no pool here; make one: localmem pool create NAME --hub URL")
    if len(pools) > 1:
        raise click.UsageError(f"--pool: which? {', '.join(one['pool'] for one in pools)}")
    return str(pools[0]["id"])


def _print_qr(text: str) -> None:
    import segno

    segno.make(text, micro=False).terminal(compact=True)
