"""Runs one benchmark: `python -m bench NAME [--json] …`; `python -m bench --list` names them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Final

from localmem_node.errors import NodeError

BENCHMARKS: Final = {
    "azure": ("bench.azure", "a hub as an Azure Function, beside compare-and-swap on one blob"),
    "azure-costs": ("bench.azure_costs", "a month of that at Azure, for 3, 30 and 300 devices"),
    "context": ("bench.context", "the estimate of a block's tokens, and the time to render one"),
    "crash": ("bench.crash", "clients hammering a daemon that is killed again and again"),
    "docstrings": ("bench.docstrings", "docstrings against the functions that they describe"),
    "encoders": ("bench.encoders", "another encoder: encoding everything anew, queries, start"),
    "eviction": ("bench.eviction", "what a full ring still answers later, by who leaves it"),
    "floor": ("bench.floor", "questions about nothing, and what it costs not to answer them"),
    "footprint": ("bench.footprint", "processor, memory and start of a daemon that mostly rests"),
    "git": ("bench.git_hunks", "commit subjects against the hunks of their commits"),
    "hooks": (
        "bench.hooks",
        "what an editor waits for at each of its hooks, the daemon well or not",
    ),
    "hub": ("bench.hub", "a hub beside hocuspocus, y-websocket and pycrdt-websocket"),
    "hub-crash": ("bench.hub_crash", "hubs that are killed again and again under load"),
    "hub-fuzz": ("bench.hub_fuzz", "mutated updates and random frames, and what a hub survives"),
    "hub-plain": ("bench.hub_plain", "plain rooms with their documents in processes of their own"),
    "hub-power-cut": ("bench.power_cut", "what a hub acknowledged, against what it had synced"),
    "hub-rest": ("bench.hub_rest", "start and memory of a hub, by how many rooms it has stored"),
    "idle": ("bench.idle", "bytes of an idle device's day, and what gathering events saves"),
    "ignored": ("bench.ignored_files", "asking git whether it ignores the file of an event"),
    "latency": ("bench.latency", "a warm query through the socket, against its encoding alone"),
    "locomo": ("bench.locomo", "questions about long conversations against their turns"),
    "mcp": ("bench.mcp", "what MCP costs: tokens, memory, time"),
    "memory": ("bench.memory", "memory of a daemon that goes on recording"),
    "payload": ("bench.payload", "bytes of a day's synchronisation, by mode and batch size"),
    "redaction": ("bench.redaction", "lines that redaction changes, beside detect-secrets"),
    "replicas": ("bench.replicas", "a hub on SQLite, on PostgreSQL, and as three replicas"),
    "roundtrips": (
        "bench.roundtrips",
        "what Claude Code and Codex ask for, with localmem and without",
    ),
    "search": (
        "bench.search_time",
        "time of a search, without encoding the query; what each vector index finds",
    ),
    "sessions": ("bench.sessions", "coding sessions, asked for later in other words"),
    "store": ("bench.store", "events that a ring file holds, time of an append and of opening"),
    "train": ("bench.train", "fits the numbers of the ranking on histories and generated lessons"),
}
"""Name: the module, whose `main(arguments)` runs it, and what it measures."""


def main(arguments: Sequence[str]) -> int:
    """Dispatch; 0, 1 when the benchmark cannot run, 2 when there is none of that name."""
    if arguments == ["--list"]:
        width = max(map(len, BENCHMARKS))
        for name, (_, subject) in BENCHMARKS.items():
            print(f"{name:<{width}}  {subject}")
        return 0
    if not arguments or arguments[0] not in BENCHMARKS:
        asked = f"no benchmark {arguments[0]!r}" if arguments else "no benchmark named"
        print(f"bench: {asked}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    try:
        importlib.import_module(BENCHMARKS[arguments[0]][0]).main(arguments[1:])
    except NodeError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
