"""Entry point of `localmem`: a table of commands, and every error as one line.

Exit codes: 0 done, 1 failed, 2 called wrongly. With `--json` an error is `{"error": …}` on stdout.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

COMMANDS: Final = {
    "up": ("localmem_node.cli.daemon:up", "Start the daemon."),
    "down": ("localmem_node.cli.daemon:down", "Stop the daemon."),
    "status": ("localmem_node.cli.daemon:status", "Show what the daemon has and does."),
    "pause": ("localmem_node.cli.pause:pause", "Capture nothing, and tell models nothing."),
    "resume": ("localmem_node.cli.pause:resume", "End a pause."),
    "stats": ("localmem_node.cli.stats:stats", "Show what was captured, injected and used."),
    "doctor": ("localmem_node.cli.doctor:doctor", "Check that everything works, with advice."),
    "demo": ("localmem_node.cli.demo:demo", "Show two devices remembering together."),
    "record": ("localmem_node.cli.record:record", "Remember one event, or one per line of stdin."),
    "query": ("localmem_node.cli.search:query", "Find events that answer a question."),
    "recent": ("localmem_node.cli.search:recent", "Show the newest events."),
    "context": ("localmem_node.cli.search:context", "Print a block of context for a model."),
    "export": ("localmem_node.cli.transfer:export_", "Write everything to a file."),
    "import": (
        "localmem_node.cli.transfer:import_",
        "Take in an export, or what editors wrote down.",
    ),
    "pin": ("localmem_node.cli.upkeep:pin", "Keep an event whatever else is evicted."),
    "forget": ("localmem_node.cli.upkeep:forget", "Forget events for good."),
    "resize": ("localmem_node.cli.upkeep:resize", "Make the store larger or smaller."),
    "key": ("localmem_node.cli.key:key", "Where the key is; a new one; a recovery code."),
    "install": ("localmem_node.cli.install:install", "Let an editor remember."),
    "uninstall": ("localmem_node.cli.install:uninstall", "Take it out of an editor again."),
    "mcp": ("localmem_node.cli.mcp:mcp", "Serve an MCP client on stdin and stdout."),
    "pair": ("localmem_node.cli.pairing:pair", "Add another device of yours, by a short code."),
    "pool": ("localmem_node.cli.pool:pool", "Devices that remember together: yours, or a team's."),
    "hub": ("localmem_node.cli.hub:hub", "Where your devices meet: your own hub, or another's."),
    "sync": ("localmem_node.cli.sync:sync", "Synchronise with the hub."),
    "simulate": (
        "localmem_node.cli.simulate:simulate_",
        "Play days of devices, a hub and faults in virtual time.",
    ),
}


class LazyGroup(click.Group):
    """Imports a command's module when that command is called, so that the others cost nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="localmem-node", prog_name="localmem")
def cli() -> None:
    """The memory that AI coding tools share: on your own machines, encrypted, in sync."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run one command; its exit code. Nothing but SystemExit of Python itself gets out."""
    as_json = "--json" in arguments
    try:
        result = cli.main(args=arguments, prog_name="localmem", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return error.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "localmem"
        return _fail(f"{_usage(error)}; see: {command} --help", "usage", 2, as_json)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", "interrupted", 1, as_json)
    except BrokenPipeError:
        # Whoever read the output has enough; what is left in the buffer must not be complained of.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.ClickException as error:
        return _fail(error.format_message(), "failed", 1, as_json)
    except Exception as error:
        return _report(error, as_json)


def _usage(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption) and error.option_name == "--json":
        return "--json goes after a command"
    return error.format_message()


def _report(error: Exception, as_json: bool) -> int:
    from localmem_node.errors import NodeError, QueryError
    from localmem_node.problems import problem
    from localmem_protocol.errors import ProtocolError

    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{name}{error.strerror or error}", "os", 1, as_json)
    if not isinstance(error, NodeError | ProtocolError):
        if os.environ.get("LOCALMEM_TRACEBACK"):
            raise error
        message = f"{type(error).__name__}: {error}; LOCALMEM_TRACEBACK=1 shows where"
        return _fail(message, "internal", 1, as_json)
    detail = problem(error)[1]["error"]
    code = 2 if isinstance(error, QueryError) else 1
    return _fail(str(error), detail["code"], code, as_json, detail["message"], detail["field"])


def _fail(
    line: str,
    code: str,
    exit_code: int,
    as_json: bool,
    message: str | None = None,
    field: str | None = None,
) -> int:
    from localmem_node.cli.output import escape, print_json
    from localmem_node.problems import one_line, problem_json

    if as_json:
        print_json(problem_json(code, message or line, field))
    else:
        click.echo(f"localmem: {escape(one_line(line))}", err=True)
    return exit_code


if __name__ == "__main__":
    main()
