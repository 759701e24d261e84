"""Does a daemon that is killed again and again keep what it acknowledged?

Rounds of 25 kills, each with a new store, by turns with room for everything and so small that its
ring wraps, first in, first out or by relevance; see `bench.killing` for what happens in them and
`bench.acknowledged` for what is counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Final

from bench.acknowledged import Result
from bench.killing import ROOMY_BYTES, TIGHT_BYTES, TIGHT_EVENTS, run
from bench.report import print_json, print_progress, print_table

ROUND_KILLS: Final = 25
ROUNDS: Final = (
    (ROOMY_BYTES, 0, "relevance"),
    (TIGHT_BYTES, TIGHT_EVENTS, "fifo"),
    (TIGHT_BYTES, TIGHT_EVENTS, "relevance"),
)


def main(arguments: Sequence[str]) -> None:
    """Print a table, or with `--json` {"kills", "lost_acknowledged", "corrupt_opens", …}.

    Raises SystemExit if anything was lost.
    """
    parser = argparse.ArgumentParser(prog="python -m bench crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the events")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    result = Result()
    number = 0
    while result.kills < options.kills and result.sound:
        kills = min(ROUND_KILLS, options.kills - result.kills)
        size, before, eviction = ROUNDS[number % len(ROUNDS)]
        seed = options.seed + number
        result.add(run(kills, size=size, seed=seed, before=before, eviction=eviction))
        number += 1
        print_progress(f"{result.kills} kills: {'nothing lost' if result.sound else 'LOST'}")
    found = {**result.to_json(), "rounds": number, "took_s": round(time.perf_counter() - began)}
    if options.json:
        print_json(found)
    else:
        print_table(["figure", "value"], [[name, str(value)] for name, value in found.items()])
    if not result.sound:
        raise SystemExit("bench: a store lost something, or did not open; the figures say what")
