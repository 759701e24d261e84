"""`localmem doctor`."""

from __future__ import annotations

import os

import click

from localmem_node.cli.output import escape, json_option, print_json
from localmem_node.doctor import Check, checks


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Check that everything works; says what to do about what does not."""
    found: list[Check] = []
    for check in checks(os.environ):
        found.append(check)
        if not as_json:
            click.echo(
                f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name}: {escape(check.detail)}"
            )
            if check.advice:
                click.echo(f"         {escape(check.advice)}")
    problems = sum(not check.ok for check in found)
    if as_json:
        print_json({"ok": not problems, "checks": found})
    return 1 if problems else 0
