"""`localmem demo`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import click

from localmem_node.cli.output import escape, json_option, print_json


@click.command()
@click.option(
    "--repo",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="The git repository whose edits are recorded; the one you stand in unless told.",
)
@json_option
def demo(repo: Path, as_json: bool) -> int:
    """Show two devices and a hub: record, find, cut the cable, synchronise.

    Everything happens in a temporary folder. The last line is one JSON object.
    """
    from localmem_node.demo.story import run_demo

    began = time.monotonic()

    def say(line: str) -> None:
        if not as_json:
            click.echo(f"[{time.monotonic() - began:5.1f} s] {escape(line)}")

    outcome = run_demo(repo, say)
    print_json(asdict(outcome))
    return 0 if outcome.good else 1
