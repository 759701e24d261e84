"""`localmem mcp`: what a client of the Model Context Protocol starts."""

from __future__ import annotations

import click


@click.command()
@click.option("--folder", help="The folder that the client works in.  [default: the current one]")
def mcp(folder: str | None) -> int:
    """Serve a client of the Model Context Protocol on stdin and stdout, until stdin ends.

    Clients start this by themselves; docs/mcp.md says what to put into their settings.
    """
    from localmem_node.mcp_server.shim import run

    return run(folder)
