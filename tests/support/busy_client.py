"""A client as a process: `python -m support.busy_client NAME ROUNDS` records, asks and looks back.

Prints one JSON object: the events that were acknowledged, by id, and what was not as it should be.
"""

from __future__ import annotations

import json
import sys

from localmem_node.client import DaemonClient
from support.events import fields


def main(name: str, rounds: int) -> dict[str, object]:
    acknowledged: dict[str, str] = {}
    wrong: list[str] = []
    with DaemonClient() as client:
        for number in range(rounds):
            snippets = [
                f"{name}{'abcdefghij'[number]}{'xyz'[at]} = 1" for at in range(number % 3 + 1)
            ]
            answer = client.record([fields(snippet=snippet) for snippet in snippets])
            recorded = {event["id"]: event["snippet"] for event in answer["recorded"]}
            if list(recorded.values()) != snippets:
                wrong.append(f"sent {snippets}, recorded {answer}")
            acknowledged |= recorded
            found = client.query(snippets[0], 1)["events"]
            if [event["snippet"] for event in found] != snippets[:1]:
                wrong.append(f"asked for {snippets[0]}, found {found}")
            seen = {event["id"] for event in client.recent(1000)["events"]}
            if not acknowledged.keys() <= seen:
                wrong.append(f"not among the newest: {acknowledged.keys() - seen}")
    return {"acknowledged": acknowledged, "wrong": wrong}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
