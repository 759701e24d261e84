"""How far is the estimate of a context block's tokens from a real count, and what does a block cost?

Pieces of real source files (`bench.edits`) are counted by the tokenizer that is here, that of MiniLM:
word pieces, without line breaks and spaces, of a vocabulary several times smaller than those of the
models that write code, which count fewer as a rule. `ratio` is the estimate over that count, for
pieces and for whole blocks; `characters` are those per word piece. Then the time to render a block of
50 hits, as large as it gets and within the usual budget.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

import localmem_minilm
from bench.edits import edits
from bench.report import print_json, print_table
from localmem_node.context import HITS, render
from localmem_node.plain_text import size_of
from localmem_node.results import BUDGET_DEFAULT, BUDGET_MAX, Found
from localmem_protocol.events import Event, parse_draft, stamp

PERCENTILES: Final = (0, 1, 5, 50, 95, 100)
DEVICE: Final = "0" * 16
QUERY: Final = "how is the default value of an option parsed"


def main(arguments: Sequence[str]) -> None:
    """Print percentiles and times, or with `--json` {"ratios", "characters", "render_ms"}."""
    parser = argparse.ArgumentParser(prog="python -m bench context", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.events < HITS:
        parser.error(f"--events must be at least {HITS}")
    result = measured(options.events)
    if options.json:
        print_json(result)
        return
    names = [
        "",
        *(f"p{one}" if 0 < one < 100 else ("least", "most")[one > 0] for one in PERCENTILES),
    ]
    rows = [[f"ratio, {name}", *found] for name, found in result["ratios"].items()]
    print_table(names, [*rows, ["characters, pieces", *result["characters"]]])
    for budget, took_ms in result["render_ms"].items():
        print(f"render {HITS} hits into {budget} tokens: {took_ms:.2f} ms (median)")


def measured(count: int) -> dict[str, Any]:
    """What `main` prints, for so many pieces."""
    tokenizer = Tokenizer.from_file(str(localmem_minilm.TOKENIZER_PATH))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def pieces(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    events = list(_events(count))
    blocks: list[str] = []
    took: dict[str, list[float]] = {}
    for start in range(0, count, HITS):
        hits = [Found(event, 1.0) for event in events[start : start + HITS]]
        for budget in (BUDGET_DEFAULT, BUDGET_MAX):
            began = time.perf_counter()
            block = render(
                hits, QUERY, budget_tokens=budget, now_ms=events[-1].timestamp, device=DEVICE
            )
            took.setdefault(str(budget), []).append(1000 * (time.perf_counter() - began))
        blocks.append(block.text)
    snippets = [event.snippet for event in events]
    return {
        "ratios": {
            name: _percentiles([size_of(text).tokens / pieces(text) for text in texts])
            for name, texts in (("pieces", snippets), ("blocks", blocks))
        },
        "characters": _percentiles([len(text) / pieces(text) for text in snippets]),
        "render_ms": {budget: float(np.median(times)) for budget, times in took.items()},
    }


def _events(count: int) -> Iterator[Event]:
    for number, fields in enumerate(edits(count), 1):
        draft = parse_draft(fields)
        yield stamp(draft, device=DEVICE, clock=draft.timestamp << 16, sequence=number)


def _percentiles(values: Sequence[float]) -> list[float]:
    return [round(float(one), 2) for one in np.percentile(values, PERCENTILES)]
