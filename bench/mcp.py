"""What does MCP cost? Tokens that a model reads, memory, time.

A real daemon with edits (`bench.edits`), asked through the stdio pump as an editor does; a question
is the first line of an edit.

- tokens (localmem's own estimate, on the high side: `bench context`): `instructions`; `tools`, the
  list as a model gets it, which is name, description and arguments; `answer`, eight hits as Claude
  Code and Codex show them (the structured content as JSON; median), `answer_text`, the same as other
  clients do; `details`, one of them in full. The baseline is `whole`: the eight events as the daemon's
  own JSON.
- `rss_mib`, `pss_mib`, `anonymous_mib` of the daemon before the first request over MCP, after it, and
  after all; and of the pump.
- `first_ms`: from the start of a pump to the answer to `initialize` with the SDK yet to be loaded;
  `handshake_ms` with it loaded (median); `query_ms` over MCP, `direct_ms` the same question over the
  daemon's own interface, medians. Linux only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.daemons import daemon
from bench.edits import edits
from bench.footprint import memory_of
from bench.report import print_json, print_table
from localmem_node.client import DaemonClient
from localmem_node.mcp_server.greeting import TOOLS_JSON
from localmem_node.mcp_server.tools import INSTRUCTIONS, K_DEFAULT
from localmem_node.plain_text import size_of

EVENTS: Final = 1000
QUERIES: Final = 200
STARTS: Final = 5
CALL_EVENTS: Final = 250
COMMAND: Final = ("-P", "-m", "localmem_node.mcp_server.shim", "--folder", "/")

_INITIALIZE: Final = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}


class Pump:
    """A pump, asked one thing after the other."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The result of a request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        result = json.loads(self.process.stdout.readline())["result"]
        assert isinstance(result, dict)
        return result

    def query(self, **arguments: Any) -> dict[str, Any]:
        """The result of `query_recent`."""
        return self.ask("tools/call", {"name": "query_recent", "arguments": arguments})


@contextmanager
def pump(client: DaemonClient) -> Iterator[Pump]:
    """A pump to a daemon."""
    process = subprocess.Popen(
        [sys.executable, *COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=client.environment,
    )
    with process:
        yield Pump(process)
        assert process.stdin is not None
        process.stdin.close()


def measure(events: int, queries: int, starts: int) -> dict[str, dict[str, float]]:
    """Everything that the benchmark prints."""
    with (
        tempfile.TemporaryDirectory(prefix="lm-") as folder,
        daemon(Path(folder, "home")) as client,
    ):
        source = list(edits(events))
        for at in range(0, events, CALL_EVENTS):
            client.record(source[at : at + CALL_EVENTS])
        texts = [_question(edit) for edit in source[:: max(1, events // queries)]][:queries]
        pid = client.ensure_running().pid
        while client.status()["encoder"]["waiting"]:
            time.sleep(0.1)
        direct = [_timed(lambda text=text: client.query(text, K_DEFAULT))[0] for text in texts]
        before = memory_of(pid)
        first = _handshake(client)
        after = memory_of(pid)
        handshakes = [_handshake(client) for _ in range(starts)]
        tokens, asked, own = _answers(client, texts)
        return {
            "tokens": tokens,
            "daemon before": before,
            "daemon after": after,
            "daemon after all": memory_of(pid),
            "pump": own,
            "time": {
                "first_ms": first,
                "handshake_ms": statistics.median(handshakes),
                "query_ms": statistics.median(asked),
                "direct_ms": statistics.median(direct),
            },
        }


def _question(edit: Mapping[str, Any]) -> str:
    return str(edit["snippet"]).strip().splitlines()[0][:200]


def _timed(work: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    done = work()
    return round(1000 * (time.perf_counter() - began), 3), done


def _handshake(client: DaemonClient) -> float:
    began = time.perf_counter()
    with pump(client) as one:
        one.ask("initialize", _INITIALIZE)
        took = 1000 * (time.perf_counter() - began)
        one.query()  # the SDK is loaded when this is answered, whoever introduced it
    return round(took, 1)


def _answers(
    client: DaemonClient, texts: Sequence[str]
) -> tuple[dict[str, float], list[float], dict[str, float]]:
    """(tokens, milliseconds of each question, the pump's memory)."""
    shown = ("name", "description", "inputSchema")
    tools = json.dumps([{name: tool[name] for name in shown} for tool in TOOLS_JSON])
    counts: dict[str, list[int]] = {
        name: [] for name in ("answer", "answer_text", "details", "whole")
    }
    took: list[float] = []
    with pump(client) as one:
        one.ask("initialize", _INITIALIZE)
        for text in texts:
            milliseconds, found = _timed(lambda text=text: one.query(query=text))
            took.append(milliseconds)
            ids = found["structuredContent"]["contextIds"]
            if len(ids) < K_DEFAULT:
                continue
            details = one.query(ids=ids[:1])["structuredContent"]
            whole = client.query(text, K_DEFAULT)["events"]
            counts["answer"].append(_tokens(found["structuredContent"]))
            counts["answer_text"].append(size_of(found["content"][0]["text"]).tokens)
            counts["details"].append(_tokens(details))
            counts["whole"].append(_tokens(whole))
        own = memory_of(one.process.pid)
    tokens: dict[str, float] = {
        "instructions": size_of(INSTRUCTIONS).tokens,
        "tools": size_of(tools).tokens,
    }
    tokens |= {name: statistics.median(each or [0]) for name, each in counts.items()}
    return tokens, took, own


def _tokens(value: object) -> int:
    return size_of(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).tokens


def main(arguments: Sequence[str]) -> None:
    """Print a table, or with `--json` an object for each part."""
    parser = argparse.ArgumentParser(prog="python -m bench mcp", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help="in the store (1000)")
    parser.add_argument("--queries", type=int, default=QUERIES, help="questions (200)")
    parser.add_argument("--starts", type=int, default=STARTS, help="pumps (5)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = measure(options.events, options.queries, options.starts)
    if options.json:
        print_json(found)
        return
    rows = [(part, name, value) for part, each in found.items() for name, value in each.items()]
    print_table(("", "measured", "value"), rows)
