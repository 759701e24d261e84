"""The command `localmem-hub doctor`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from localmem_hub.cli_options import common, read_settings


@click.command()
@common
@click.option("--full", is_flag=True, help="Read the whole database (SQLite's integrity_check).")
def doctor(config: Path | None, database: str | None, as_json: bool, full: bool) -> None:
    """Check a hub and its database; says what to do about what is wrong, and then ends with 1."""
    from localmem_hub.doctor import checks
    from localmem_hub.system import SystemClock

    found = []
    for check in checks(read_settings(config, database=database), SystemClock(), full=full):
        found.append(check)
        if not as_json:
            click.echo(f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name}: {check.detail}")
            if check.advice:
                click.echo(f"         {check.advice}")
    problems = sum(not check.ok for check in found)
    if as_json:
        click.echo(json.dumps({"checks": [vars(check) for check in found], "problems": problems}))
    elif not problems:
        click.echo("all is well")
    if problems:
        sys.exit(1)
