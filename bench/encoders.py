"""What another encoder costs: its vectors of everything that is there, its queries, its start.

A real daemon in a temporary home records edits with the shipped model, is stopped, and starts again
with the encoder that is asked for (the shipped one encodes what is recorded then): `start_s` is until
it answers, `answered_s` until it has answered the first query. While it encodes everything, a client
asks a question every QUESTION_S seconds; afterwards QUESTIONS of them, one after the other. `mib` is
the daemon's resident memory at the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.daemons import daemon
from bench.edits import edits
from bench.memory import memory_of
from bench.report import print_json, print_progress, print_table
from localmem_node.client import DaemonClient
from localmem_node.config import DEVICES, ENCODERS, PROVIDERS

EVENTS: Final = 1000
BATCH: Final = 250
QUESTION_S: Final = 0.2
QUESTIONS: Final = 100


def main(arguments: Sequence[str]) -> None:
    """Print a table, or with `--json` {"encoder", "problem", "start_s", …}."""
    parser = argparse.ArgumentParser(prog="python -m bench encoders", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--kind", choices=ENCODERS, default="minilm")
    parser.add_argument("--model", help="a path, or for sentence-transformers a name")
    parser.add_argument("--device", choices=DEVICES)
    parser.add_argument("--provider", choices=PROVIDERS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    chosen = {"": options.kind, "_MODEL": options.model}
    chosen |= {"_DEVICE": options.device, "_PROVIDER": options.provider}
    result = measure(
        options.events, {f"LOCALMEM_ENCODER{key}": one for key, one in chosen.items() if one}
    )
    if options.json:
        print_json(result)
    else:
        print_table(list(result), [list(result.values())])


def measure(events: int, chosen: dict[str, str]) -> dict[str, Any]:
    """Seconds, milliseconds, texts a second and MiB; see the module."""
    drafts = list(edits(events + QUESTIONS))
    questions = [" ".join(draft["snippet"].split()[:6]) for draft in drafts[events:]]
    with tempfile.TemporaryDirectory(prefix="lm-") as home:
        if chosen["LOCALMEM_ENCODER"] != "minilm":
            with daemon(Path(home)) as client:
                record(client, drafts[:events])
                while client.status()["encoder"]["waiting"]:
                    time.sleep(QUESTION_S)
        print_progress(f"{events} events recorded; now with {' '.join(chosen.values())}")
        began = time.perf_counter()
        with daemon(Path(home), **chosen) as client:
            pid = client.ensure_running().pid
            start_s = time.perf_counter() - began
            if chosen["LOCALMEM_ENCODER"] == "minilm":
                record(client, drafts[:events])
            client.query(questions[0], 10)
            answered_s = time.perf_counter() - began
            began = time.perf_counter()
            before = client.status()["encoder"]["encoded"]
            during: list[float] = []
            while (encoder := client.status()["encoder"])["waiting"] and not encoder["problem"]:
                during.append(asked(client, questions[len(during) % QUESTIONS]))
                time.sleep(QUESTION_S)
            took_s = time.perf_counter() - began
            after = [asked(client, question) for question in questions]
            return {
                "encoder": encoder["model"],
                "problem": encoder["problem"],
                "start_s": start_s,
                "answered_s": answered_s,
                "texts_per_s": (events - before) / took_s,
                "query_meanwhile_p50_ms": float(np.median(during or [0])),
                "query_p50_ms": float(np.median(after)),
                "mib": memory_of(pid)["VmRSS"] / 2**20,
            }


def record(client: DaemonClient, drafts: Sequence[dict[str, Any]]) -> None:
    """Keep all of them."""
    for start in range(0, len(drafts), BATCH):
        answer = client.record(drafts[start : start + BATCH])
        assert not answer["failed"], answer["failed"][0]


def asked(client: DaemonClient, question: str) -> float:
    """Milliseconds from a question to its answer."""
    began = time.perf_counter()
    client.query(question, 10)
    return 1000 * (time.perf_counter() - began)
